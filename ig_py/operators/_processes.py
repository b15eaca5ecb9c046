"""Every process of the host, as /proc tells (proc_pid_stat(5), proc_pid_statm(5))."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime

from ig_py.host.files import HostReadError, read_bytes, read_text
from ig_py.host.proc import HostView
from ig_py.operators._samples import Value
from ig_py.records import dataclass

_READ = 4096
"""Bytes; stat and statm are shorter, and of status the start is enough."""
_MEMORY = frozenset({"memoryRSS", "memoryVirtual", "memoryShared", "memoryRelative"})


@dataclass(frozen=True)
class Machine:
    """Sizes of the machine.

    Attributes:
        boot: Time of its start, unix seconds.
        ticks: Clock ticks a second.
        cpus: Number of processors.
        memory: Bytes.
        page: Bytes of a page.
    """

    boot: int
    ticks: int
    cpus: int
    memory: int
    page: int

    @classmethod
    def of(cls, view: HostView) -> Machine:
        boot = memory = 0
        for line in read_text(f"{view.proc}/stat").splitlines():
            if line.startswith("btime "):
                boot = int(line[6:])
        for line in read_text(f"{view.proc}/meminfo").splitlines():
            if line.startswith("MemTotal:"):
                memory = int(line.split()[1]) << 10
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGESIZE")
        return cls(boot, ticks, os.cpu_count() or 1, memory, page)


class ProcessReader:
    """Reads all processes; usage is that since the call before.

    Args:
        wanted: Names of fields; files that none of them needs are not read.
    """

    def __init__(
        self,
        view: HostView,
        wanted: frozenset[str],
        machine: Machine | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._view = view
        self._wanted = wanted
        self._given = machine
        self._machine = machine or Machine.of(view)
        self._clock = clock
        self._before: dict[tuple[int, int], int] = {}
        self._read_at = 0
        self._newest = 0

    def read(self) -> Iterator[dict[str, Value]]:
        """Values by field name of each process, by pid; those that end meanwhile are left out.

        Raises:
            HostReadError: A process may be there, and cannot be read: the call counts for nothing.
        """
        before = self._before, self._read_at, self._newest
        try:
            yield from self._read()
        except HostReadError:
            self._before, self._read_at, self._newest = before
            raise

    def _read(self) -> Iterator[dict[str, Value]]:
        now = self._clock()
        elapsed = (now - self._read_at) / 1e9 if self._read_at else 0.0
        before, self._before, self._read_at = self._before, {}, now
        newest, self._newest = self._newest, 0
        # The time of the machine's start moves when its clock is set.
        self._machine = self._given or Machine.of(self._view)
        for pid in sorted(self._view.pids()):
            row = self._process(pid)
            if row is None:
                continue
            started, ticks = int(row["startTime"]), int(row["cpuTime"])
            self._newest = max(self._newest, started)
            self._before[pid, started] = ticks
            # A process that started after the last call has used all its time since.
            known = before.get((pid, started), 0 if started >= newest else ticks)
            usage = 0.0
            if elapsed > 0:
                usage = max(0, ticks - known) / self._machine.ticks / elapsed * 100
            row["cpuUsage"] = usage
            row["cpuUsageRelative"] = usage / self._machine.cpus
            yield row

    def _process(self, pid: int) -> dict[str, Value] | None:
        directory = f"{self._view.proc}/{pid}"
        stat = read_bytes(f"{directory}/stat", _READ)
        # The name may contain parentheses and blanks: the last parenthesis ends it.
        end = stat.rfind(b")")
        parts = stat[end + 2 :].split()
        if end < 0 or len(parts) < 20:
            return None
        ticks, started = int(parts[11]) + int(parts[12]), int(parts[19])
        row: dict[str, Value] = {
            "pid": pid,
            "ppid": int(parts[1]),
            "comm": stat[stat.find(b"(") + 1 : end],
            "state": parts[0],
            "priority": int(parts[15]),
            "nice": int(parts[16]),
            "threadCount": int(parts[17]),
            "startTime": started,
            "cpuTime": ticks,
            "mountnsid": self._view.namespace(pid, "mnt") or 0,
        }
        wanted = self._wanted
        if wanted & _MEMORY:
            self._memory(directory, row)
        if "uid" in wanted:
            row["uid"] = _uid(directory)
        if "startTime" in wanted:
            seconds = self._machine.boot + started // self._machine.ticks
            row["startTimeStr"] = rfc3339(seconds).encode()
        if "cpuTime" in wanted:
            row["cpuTimeStr"] = clock_text(ticks, self._machine.ticks).encode()
        return row

    def _memory(self, directory: str, row: dict[str, Value]) -> None:
        parts = read_bytes(f"{directory}/statm", _READ).split()
        size, resident, shared = map(int, parts[:3]) if len(parts) >= 3 else (0, 0, 0)
        page, total = self._machine.page, self._machine.memory
        row["memoryVirtual_raw"] = size * page
        row["memoryRSS_raw"] = resident * page
        row["memoryShared_raw"] = shared * page
        row["memoryRelative"] = 100 * resident * page / total if total else 0.0


def _uid(directory: str) -> int:
    """Id of the real user."""
    status = read_bytes(f"{directory}/status", _READ)
    at = status.find(b"\nUid:")
    return int(status[at + 5 :].split(None, 1)[0]) if at >= 0 else 0


def rfc3339(seconds: int) -> str:
    """Unix seconds in local time: ``2026-11-23T05:59:32Z``."""
    try:
        text = datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return ""
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


def clock_text(ticks: int, per_second: int) -> str:
    """Processor time as ``M:SS.mmm``."""
    milliseconds = ticks * 1000 // per_second
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}:{rest // 1000:02}.{rest % 1000:03}"
