"""A machine with more to do than it has processors."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

LOOPS = 2
"""For each processor."""


@contextlib.contextmanager
def busy_processors() -> Iterator[None]:
    """Processes that never rest, as long as the block runs."""
    argv = [sys.executable, "-P", "-S", "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        for _ in range(LOOPS * len(os.sched_getaffinity(0))):
            process = subprocess.Popen(argv)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield
