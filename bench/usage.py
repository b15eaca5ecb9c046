"""What a process tree used: processor time to the nanosecond, wake-ups and resident memory.

Processor time is that of the scheduler (Documentation/scheduler/sched-stats.rst: the first number
of ``/proc/PID/task/TID/schedstat``), as ticks of 10 ms show nothing of a tracer at rest. What a
thread used that ended between two readings is not counted.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

_PEAK = re.compile(r"^VmHWM:\s+(\d+)", re.MULTILINE)
_NOW = re.compile(r"^VmRSS:\s+(\d+)", re.MULTILINE)
_ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+)", re.MULTILINE)
_PROPORTIONAL = re.compile(r"^Pss:\s+(\d+)", re.MULTILINE)
_SWITCHES = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Usage:
    """``cpu`` seconds by thread; voluntary context ``switches`` by thread, each of which ends with
    a wake-up; ``rss_kib`` the peaks of resident memory of all processes, added."""

    cpu: dict[int, float]
    switches: dict[int, int]
    rss_kib: int

    def __add__(self, other: Usage) -> Usage:
        """Of two trees that share no thread."""
        return Usage(
            self.cpu | other.cpu, self.switches | other.switches, self.rss_kib + other.rss_kib
        )

    def cpu_since(self, before: Usage) -> float:
        """Seconds of the threads that run now, since *before*."""
        return sum(seconds - before.cpu.get(thread, 0.0) for thread, seconds in self.cpu.items())

    def switches_since(self, before: Usage) -> int:
        return sum(
            number - before.switches.get(thread, 0) for thread, number in self.switches.items()
        )


def processes(pid: int) -> list[int]:
    """*pid* and its descendants."""
    found = [pid]
    for process in found:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except OSError:
                continue
    return found


def usage(pid: int) -> Usage:
    """Of the whole tree under *pid*."""
    cpu: dict[int, float] = {}
    switches: dict[int, int] = {}
    rss = 0
    for process in processes(pid):
        try:
            peak = _PEAK.search(Path(f"/proc/{process}/status").read_text())
        except OSError:
            continue
        rss += int(peak.group(1)) if peak else 0
        for task in Path(f"/proc/{process}/task").iterdir():
            try:
                nanoseconds = (task / "schedstat").read_text().split()[0]
                voluntary = _SWITCHES.search((task / "status").read_text())
            except OSError:
                continue
            cpu[int(task.name)] = int(nanoseconds) / 1e9
            switches[int(task.name)] = int(voluntary.group(1)) if voluntary else 0
    return Usage(cpu, switches, rss)


def cpu_seconds(pid: int) -> float:
    """Processor time of the tree under *pid* until now, of threads that have ended too. OSError
    where *pid* itself has ended."""
    total = _clock(pid)
    for process in processes(pid)[1:]:
        try:
            total += _clock(process)
        except OSError:
            continue
    return total


def _clock(pid: int) -> float:
    # The number of a process's clock (clock_getcpuclockid(3)): 2 is the scheduler's (kernel:
    # CPUCLOCK_SCHED in include/linux/posix-timers_types.h).
    return time.clock_gettime(~pid << 3 | 2)


@dataclass(frozen=True)
class Memory:
    """KiB: resident now, the anonymous part of that, and the proportional share (a page that
    several processes map counts for each by its part)."""

    rss: int
    anonymous: int
    proportional: int

    def __add__(self, other: Memory) -> Memory:
        return Memory(
            self.rss + other.rss,
            self.anonymous + other.anonymous,
            self.proportional + other.proportional,
        )


def memory(pid: int) -> Memory:
    """Of the whole tree under *pid*. OSError where *pid* itself has ended."""
    total = _memory(Path(f"/proc/{pid}"))
    for process in processes(pid)[1:]:
        try:
            total += _memory(Path(f"/proc/{process}"))
        except OSError:
            continue
    return total


def _memory(base: Path) -> Memory:
    status = (base / "status").read_text()
    rollup = (base / "smaps_rollup").read_text()
    return Memory(_kib(_NOW, status), _kib(_ANONYMOUS, status), _kib(_PROPORTIONAL, rollup))


def _kib(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(found.group(1)) if found else 0
