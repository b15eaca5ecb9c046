"""Loading a gadget's programs, which the kernel's verifier may take long for.

The kernel bounds what the verifier does for one program (a million instructions processed), and a
small image can have a thousand such programs. So their load takes a bounded time, and is left
alone when the run is to end: the kernel ends it with the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ig_py.errors import LimitError
from ig_py.host import pins
from ig_py.host.latch import Latch
from ig_py.runtime.state import StopRequest, wait_any

T = TypeVar("T")

MAX_LOAD_SECONDS = 20.0
"""Processor time. Gadgets take a fraction of a second, and in an emulated machine some seconds."""
STOP_SECONDS = 0.3
"""Longest wait for a load to come to an end by itself when the run is to end."""
_LOOK_SECONDS = 0.1


def bounded_load(load: Callable[[], T], name: str, stop: StopRequest) -> T:
    """Run *load* in a thread of its own and return its result, or raise what it raises.

    Args:
        name: The gadget, for the error.
        stop: Ends the wait; by-name pins that the load made are removed.

    Raises:
        Stopped: *stop* was set, and *load* has not ended :data:`STOP_SECONDS` later.
        LimitError: *load* takes more than :data:`MAX_LOAD_SECONDS`.
    """
    done = Latch()
    results: list[T] = []
    failures: list[BaseException] = []

    def target() -> None:
        try:
            results.append(load())
        except BaseException as err:
            failures.append(err)
        finally:
            done.set()

    began = time.process_time()
    # The process ends without waiting for it (and for threads that it starts).
    threading.Thread(target=target, name="ig-py-load", daemon=True).start()
    while not wait_any([done, stop], _LOOK_SECONDS):
        if time.process_time() - began > MAX_LOAD_SECONDS:
            pins.release_all()
            raise LimitError(
                f"running gadget {name}: loading its programs took more than "
                f"{MAX_LOAD_SECONDS:.0f} s of processor time",
                remedy="the kernel's verifier takes too long for them: make loops shorter",
            )
    if not done and not wait_any([done], STOP_SECONDS):
        pins.release_all()
        stop.check()
    if failures:
        raise failures[0]
    return results[0]
