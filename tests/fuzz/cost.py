"""What a sample costs: processor time and memory, and how much of either is too much.

A target that does the work of several commands tells where each ends (:func:`lap`): what counts is
the dearest.

Memory is the process's high-water mark (proc(5): writing 5 to ``clear_refs`` resets VmHWM).
"""

from __future__ import annotations

import ctypes
import re
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType

MAX_SECONDS = 2.0
MAX_MIB = 256.0
FLOOR_SECONDS = 1.5
"""Below it a sample is cheap, however small."""
MAX_MICROSECONDS_PER_BYTE = 20.0
GIVE_UP_SECONDS = 8.0
MAX_ADDRESS_SPACE = 4 << 30

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_laps: list[float] = []


@dataclass(frozen=True)
class Cost:
    """*seconds* of processor time and *mib* of memory for a sample of *size* bytes."""

    seconds: float = 0.0
    mib: float = 0.0
    size: int = 1
    where: str = ""
    """The innermost function of ours, when the sample was given up."""

    @property
    def microseconds_per_byte(self) -> float:
        return self.seconds * 1e6 / self.size

    def too_much(self) -> str:
        """Why it is more than a sample may cost; empty when it is not."""
        if self.seconds > MAX_SECONDS:
            at = f", in {self.where}" if self.where else ""
            return f"{self.seconds:.1f} s for {self.size} bytes, at most {MAX_SECONDS} s{at}"
        if self.mib > MAX_MIB:
            return f"{self.mib:.0f} MiB for {self.size} bytes, at most {MAX_MIB:.0f} MiB"
        if self.seconds > FLOOR_SECONDS and self.microseconds_per_byte > MAX_MICROSECONDS_PER_BYTE:
            return f"{self.seconds:.1f} s for {self.size} bytes, too much for so few"
        return ""


class TooCostly(Exception):
    """A sample costs more than it may."""


class _GivenUp(BaseException):
    """Not for the code under test to handle; *args*: where it was."""


def lap() -> None:
    """Called by a target: the first time when what all commands begin with is done, then whenever
    one of them has ended."""
    _laps.append(time.process_time())


def measure(run: Callable[[bytes], str], sample: bytes) -> tuple[str, Cost]:
    """What *run* says of *sample*, and what it cost. Raises what *run* raises, or TooCostly."""
    _give_back()
    _CLEAR_REFS.write_text(_RESET_PEAK)
    where = ""
    before, start = _memory("VmRSS"), time.process_time()
    _laps.clear()
    try:
        with _interrupted(GIVE_UP_SECONDS):
            end = run(sample)
    except _GivenUp as err:
        end, where = "given up", str(err.args[0])
    except MemoryError:
        raise TooCostly(f"memory for {len(sample)} bytes: beyond the address space") from None
    seconds = _dearest([start, *_laps, time.process_time()])
    return end, Cost(seconds, _memory("VmHWM") - before, max(1, len(sample)), where)


def _dearest(times: list[float]) -> float:
    """Seconds of what all commands begin with and of the longest command, between *times*."""
    first, *others = (after - before for before, after in pairwise(times))
    return first + max(others, default=0.0)


def limit_memory() -> None:
    """Make huge allocations fail, so that they are findings and not the end of the machine."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE))


def _give_back() -> None:
    """Memory that is free already would hide what a sample takes (glibc: malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _memory(what: str) -> float:
    found = re.search(rf"^{what}:\s+([0-9]+) kB", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


@contextmanager
def _interrupted(seconds: float) -> Iterator[None]:
    def give_up(_number: int, frame: FrameType | None) -> None:
        while frame and "ig_py" not in frame.f_code.co_filename:
            frame = frame.f_back
        code = frame.f_code if frame else give_up.__code__
        raise _GivenUp(f"{Path(code.co_filename).name}: {code.co_qualname}")

    old = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)
