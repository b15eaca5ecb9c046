"""The messages of engines that speak gRPC; ``make protos`` makes the modules from the ``.proto``
files, and a unit test says when they are stale."""
