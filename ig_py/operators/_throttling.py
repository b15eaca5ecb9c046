"""Control groups with a limit of processor time, and how often it throttled them.

Kernel: Documentation/admin-guide/cgroup-v2.rst (``cpu.max``, ``cpu.stat``, ``cpu.pressure``)
and scheduler/sched-bwc.rst for version 1, whose times are in microseconds, throttled time in ns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ig_py.host.files import HostReadError, is_there, read_text, require_absent
from ig_py.host.proc import HostView
from ig_py.operators._samples import Value
from ig_py.records import dataclass

MAX_GROUPS = 1 << 16
"""Most groups of one report."""
MAX_DEPTH = 64
MAX_MEMBERS = 64
"""Most descendants of a group without processes whose mount namespace is read."""
_V1 = ("cpu", "cpu,cpuacct")
_MICROSECOND = 1000


@dataclass(frozen=True)
class Hierarchy:
    """Path of the root group; *unified*: version 2."""

    root: str
    unified: bool


def hierarchy(view: HostView) -> Hierarchy | None:
    """The mounted hierarchy that limits processor time; None when there is none."""
    unified = view.cgroup2_mount()
    if unified and "cpu" in read_text(f"{unified}/cgroup.controllers").split():
        return Hierarchy(unified, unified=True)
    base = view.path("/sys/fs/cgroup")
    for name in _V1:
        if is_there(f"{base}/{name}/cgroup.procs"):
            return Hierarchy(f"{base}/{name}", unified=False)
    return None


@dataclass(frozen=True)
class _Totals:
    periods: int
    throttled: int
    time: int


class ThrottleReader:
    """Reads every group; counts are those since the call before."""

    def __init__(self, view: HostView, where: Hierarchy) -> None:
        self._view = view
        self._where = where
        self._before: dict[tuple[str, int], _Totals] = {}

    def read(self) -> Iterator[dict[str, Value]]:
        """Values by field name of each group that has a limit and ran since the call before.

        A group that is read for the first time is left out: its counts cannot be compared. So is
        a group without processes of its own, when groups below it have limits.

        Raises:
            HostReadError: A group may be there, and cannot be read: the call counts for nothing.
        """
        before = self._before
        try:
            yield from self._read()
        except HostReadError:
            self._before = before
            raise

    def _read(self) -> Iterator[dict[str, Value]]:
        before, self._before = self._before, {}
        limited = [(p, i, limit) for p, i in self._groups() if (limit := self._limit(p))]
        above = {os.path.dirname(path) for path, _, _ in limited}  # noqa: PTH120
        for path in list(above):
            while len(path) > len(self._where.root):
                path = os.path.dirname(path)  # noqa: PTH120
                above.add(path)
        for path, inode, limit in limited:
            now = self._totals(path)
            self._before[path, inode] = now
            known = before.get((path, inode))
            if known is None or now.periods <= known.periods:
                continue
            if path in above and not read_text(f"{path}/cgroup.procs"):
                continue
            yield self._row(path, limit, known, now)

    def _groups(self) -> Iterator[tuple[str, int]]:
        """Path and inode of each group but the root, which has no limits."""
        todo = [(self._where.root, 0)]
        seen = 0
        while todo:
            directory, depth = todo.pop()
            for path, inode in sorted(_children(directory), reverse=True):
                if depth < MAX_DEPTH and seen < MAX_GROUPS:
                    seen += 1
                    todo.append((path, depth + 1))
                    yield path, inode

    def _limit(self, path: str) -> tuple[int, int] | None:
        """(quota, period) in ns; None for no limit."""
        if self._where.unified:
            words = read_text(f"{path}/cpu.max").split()
        else:
            words = [read_text(f"{path}/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(words) != 2 or not all(word.isdecimal() for word in words) or words[1] == "0":
            return None
        return int(words[0]) * _MICROSECOND, int(words[1]) * _MICROSECOND

    def _totals(self, path: str) -> _Totals:
        found = {"nr_periods": 0, "nr_throttled": 0, "throttled_usec": 0, "throttled_time": 0}
        for line in read_text(f"{path}/cpu.stat").splitlines():
            key, _, value = line.partition(" ")
            if key in found and value.isdecimal():
                found[key] = int(value)
        time = found["throttled_time"] or found["throttled_usec"] * _MICROSECOND
        return _Totals(found["nr_periods"], found["nr_throttled"], time)

    def _row(
        self, path: str, limit: tuple[int, int], known: _Totals, now: _Totals
    ) -> dict[str, Value]:
        quota, period = limit
        periods, throttled = now.periods - known.periods, max(0, now.throttled - known.throttled)
        pressure = self._pressure(path)
        return {
            "cgroupPath": path.removeprefix(self._where.root).encode("utf-8", "surrogateescape"),
            "nrPeriods": periods,
            "nrThrottled": throttled,
            "throttledTime_raw": max(0, now.time - known.time),
            "throttleRatio": 100 * throttled / periods,
            "cpuQuota_raw": quota,
            "cpuPeriod_raw": period,
            "cpuLimitCores": quota / period,
            "psiSomeAvg10": pressure.get("avg10", 0.0),
            "psiSomeAvg60": pressure.get("avg60", 0.0),
            "mountnsid": self._mntns(path),
        }

    def _pressure(self, path: str) -> dict[str, float]:
        """Values of ``some`` of cpu.pressure; empty where the kernel has no PSI."""
        for line in read_text(f"{path}/cpu.pressure").splitlines():
            if line.startswith("some "):
                pairs = (word.partition("=") for word in line.split()[1:])
                return {key: _number(value) for key, _, value in pairs}
        return {}

    def _mntns(self, path: str) -> int:
        """Mount namespace of the group's processes or, when it has none, of all groups below.

        0 when they differ: then the group is no container's.
        """
        found: set[int] = set()
        todo = [path]
        for _ in range(MAX_MEMBERS):
            if not todo or len(found) > 1:
                break
            group = todo.pop()
            pids = read_text(f"{group}/cgroup.procs").split()
            mntns = next((n for pid in pids if (n := self._namespace(pid))), 0)
            if mntns:
                found.add(mntns)
            else:
                todo += [child for child, _ in _children(group)]
        return found.pop() if len(found) == 1 else 0

    def _namespace(self, pid: str) -> int:
        # 0: a process of another pid namespace.
        return (self._view.namespace(int(pid), "mnt") or 0) if pid.isdecimal() else 0


def _children(directory: str) -> list[tuple[str, int]]:
    try:
        with os.scandir(directory) as entries:
            return [(e.path, e.inode()) for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError as error:
        require_absent(directory, error, denied=True)
        return []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
