"""One run's life: resolve, prepare, load, attach, stream, stop."""
