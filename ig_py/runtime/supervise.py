"""Waiting for a run in the main thread, where signals arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ig_py.host.latch import Latch
from ig_py.runtime.state import StopRequest, wait_any
from ig_py.runtime.worker import Worker

T = TypeVar("T")


def supervise(work: Callable[[], T], running: Latch, stop: StopRequest, timeout: float | None) -> T:
    """Run *work* in a thread of its own and return its result, or raise what it raised.

    Native calls of *work* may take long; the main thread stays in a wait that signals interrupt.

    Args:
        running: Set by *work* when the time limit begins.
        stop: Set when *timeout* seconds have passed since then (None: no limit).
    """
    worker = Worker(work, "ig-py-run")
    wait_any([worker.done, running, stop])
    if timeout is not None and not wait_any([worker.done, stop], timeout):
        stop.set()
    wait_any([worker.done])
    return worker.result()
