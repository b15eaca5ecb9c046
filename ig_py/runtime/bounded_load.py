"""Loading a gadget's programs, which the kernel's verifier may take long for.

The kernel bounds what the verifier does for one program, and a small image can have a thousand
such programs. So their load has a bound of its own, and is left alone when the run is to end: the
kernel ends it with the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ig_py.errors import LimitError
from ig_py.host import pins
from ig_py.host.slowness import slowness
from ig_py.runtime.state import StopRequest, wait_any
from ig_py.runtime.verifier_work import VerifierWork
from ig_py.runtime.worker import Worker

T = TypeVar("T")

MAX_VERIFIED = 1_500_000
"""Instructions that the verifier processes for all programs, loaded or refused: more than the
kernel allows for one, less than a second. The heaviest gadget known, which reads TLS handshakes,
takes 120,000."""
MAX_LOAD_SECONDS = 1.6
"""Processor time of the load, on a usual machine: with the start of the run less than two seconds.
It bounds what :data:`MAX_VERIFIED` does not: instructions that the verifier takes long for, kernels
that tell of none, and what is loaded again when an optional program is refused. The heaviest gadget
known takes 0.3 s; a kernel that checks itself (KASAN, lockdep) takes several times as long while
the machine seems no slower."""
STOP_SECONDS = 0.3
"""Longest wait for a load to come to an end by itself when the run is to end."""
_LOOK_SECONDS = 0.1


def bounded_load(
    load: Callable[[], T], name: str, stop: StopRequest, work: VerifierWork | None = None
) -> T:
    """Run *load* in a thread of its own and return its result, or raise what it raises.

    Args:
        name: The gadget, for the error.
        stop: Ends the wait; by-name pins that the load made are removed.
        work: To which *load* tells what is refused; None when it tells nothing.

    Raises:
        Stopped: *stop* was set, and *load* has not ended :data:`STOP_SECONDS` later.
        LimitError: *load* goes beyond :data:`MAX_VERIFIED`, or :data:`MAX_LOAD_SECONDS` times
            the machine's slowness.
    """
    work, limit = work or VerifierWork(), MAX_LOAD_SECONDS
    # The process ends without waiting for it (and for threads that it starts).
    worker = Worker(load, "ig-py-load", daemon=True)
    while not wait_any([worker.done, stop], _LOOK_SECONDS):
        if work.instructions() > MAX_VERIFIED:
            raise _too_long(name, f"{MAX_VERIFIED:,} instructions of the kernel's verifier")
        if worker.seconds() > limit:
            # Measured here, so that others do not wait for it.
            limit = MAX_LOAD_SECONDS * slowness()
            if worker.seconds() > limit:
                raise _too_long(name, f"{limit:.1f} s of processor time")
    if not worker.done and not wait_any([worker.done], STOP_SECONDS):
        pins.release_all()
        stop.check()
    return worker.result()


def _too_long(name: str, what: str) -> LimitError:
    pins.release_all()
    return LimitError(
        f"running gadget {name}: loading its programs takes more than {what}",
        remedy="the verifier takes too long for them: make loops shorter",
    )
