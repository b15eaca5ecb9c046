"""The load of the benchmarks (bench/load.c), for tests of many events of another user."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.waiting import deadline

_SOURCE = Path(__file__).resolve().parents[2] / "bench" / "load.c"


@contextmanager
def bench_load() -> Iterator[str]:
    """Path of the compiled load. It leaves root before it executes itself: its folder is open to
    everyone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "load"
        argv = ["cc", "-O2", "-static", "-pthread", str(_SOURCE), "-o", str(path)]
        subprocess.run(argv, check=True, timeout=deadline(60))
        yield str(path)
