"""A container of root's that executes programs all the time, while others attack what traces it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from support.oci_bundle import make_bundle
from support.oci_runtime import Runtime


@contextlib.contextmanager
def running_victim(directory: Path, name: str, script: str) -> Iterator[int]:
    """The process id of its init, which runs the shell *script*; removed when the block ends."""
    bundle = make_bundle(directory, "/bin/sh", "-c", script)
    runtime = Runtime("runc", str(directory / "state"))
    runtime.run(name, bundle)
    try:
        yield runtime.pid(name)
    finally:
        runtime.remove(name)
