"""``cgroup``: an array of control groups with a limit of processor time, and their throttling.

Facts: docs/user-space.md. ``operator.cgroup`` of gadget.yaml has ``emitstats``,
``interval``, ``first-interval`` and ``count``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar

from ig_py.gadget.duration import format_duration
from ig_py.gadget.spec import Kind
from ig_py.host.files import HostReadError
from ig_py.operators import _samples
from ig_py.operators._samples import Member, Samples, described
from ig_py.operators.base import Context, Operator

if TYPE_CHECKING:
    from ig_py.operators._samples import Pace
    from ig_py.operators._throttling import ThrottleReader
    from ig_py.operators.running import Running

log = logging.getLogger(__name__)

DATASOURCE = "cgroups"
DEFAULT_INTERVAL = 5_000_000_000
_MAX_PATH = 4096
_DURATION = ("type:gadget_duration",)


def _number(width: int, description: str, **columns: object) -> dict[str, str]:
    return described(description, alignment="right", maxwidth=width, **columns)


_MEMBERS = (
    Member(
        "cgroupPath",
        Kind.STRING,
        described("Path of the control group", ellipsis="start", hidden="true", maxwidth=60),
        size=_MAX_PATH,
    ),
    Member("nrPeriods", Kind.UINT64, _number(10, "Periods since the last report")),
    Member("nrThrottled", Kind.UINT64, _number(12, "Periods in which the quota was used up")),
    Member("throttledTime_raw", Kind.UINT64, _number(14, "Time held back in ns"), _DURATION),
    Member("throttleRatio", Kind.FLOAT64, _number(8, "Percent of periods held back", precision=2)),
    Member("cpuQuota_raw", Kind.UINT64, _number(10, "Quota of each period in ns"), _DURATION),
    Member(
        "cpuPeriod_raw",
        Kind.UINT64,
        _number(10, "Length of a period in ns", hidden="true"),
        _DURATION,
    ),
    Member("cpuLimitCores", Kind.FLOAT64, _number(8, "Quota in processors", precision=2)),
    Member(
        "psiSomeAvg10",
        Kind.FLOAT64,
        _number(8, "Percent of 10 s in which tasks waited", precision=2),
    ),
    Member(
        "psiSomeAvg60",
        Kind.FLOAT64,
        _number(8, "Percent of 60 s in which tasks waited", precision=2),
    ),
    Member("mountnsid", Kind.UINT64, {"template": "mntns_id"}, ("type:gadget_mntns_id",)),
)


class CgroupStats(Operator):
    name: ClassVar[str] = "cgroup"
    priority: ClassVar[int] = -900

    def __init__(self) -> None:
        self._samples: Samples | None = None
        self._pace: Pace | None = None
        self._reader: ThrottleReader | None = None

    def instantiate(self, ctx: Context) -> bool:
        """Declare the array.

        Raises:
            MetadataError: ``operator.cgroup`` of gadget.yaml has a wrong value, or the gadget has
                a data source of that name.
        """
        if not _samples.is_wanted(ctx.spec.metadata, self.name):
            return False
        self._pace = pace = _samples.pace(ctx.spec.metadata, self.name, DEFAULT_INTERVAL)
        ds = _samples.declare_array(ctx, DATASOURCE, format_duration(pace.interval))
        self._samples = Samples(ds, _MEMBERS)
        return True

    def start(self, ctx: Context, running: Running) -> None:
        from ig_py.operators._throttling import ThrottleReader, hierarchy

        assert self._pace is not None
        self._pace.apply(running, lambda: self._report(running))
        view = running.host.view
        where = hierarchy(view)
        if where is None:
            log.warning(
                "no cgroup hierarchy that limits processor time is mounted: the array stays empty"
            )
            return
        self._reader = ThrottleReader(view, where)
        # The first report is compared with these counts.
        for _ in self._reader.read():
            pass

    def _report(self, running: Running) -> None:
        assert self._samples is not None
        try:
            rows = list(self._reader.read()) if self._reader else []
        except HostReadError as error:
            running.host.view.failures.add(error)
            return
        pack, selects = self._samples.pack, running.host.selects
        running.emit(DATASOURCE, [pack(row) for row in rows if selects(int(row["mountnsid"]))])
