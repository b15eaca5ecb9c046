"""``process``: an array of all processes at intervals, for gadgets that ask for it in gadget.yaml.

Facts: docs/user-space.md. ``operator.process`` has ``emitstats``, ``interval``,
``first-interval``, ``count`` and ``fields``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ig_py.gadget.duration import format_duration
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceSpec, Kind
from ig_py.host.files import HostReadError
from ig_py.operators import _samples
from ig_py.operators._samples import Member, Samples, described
from ig_py.operators.base import Context, Operator

if TYPE_CHECKING:
    from ig_py.operators._processes import ProcessReader
    from ig_py.operators._samples import Pace
    from ig_py.operators.running import Running

DATASOURCE = "processes"
DEFAULT_INTERVAL = 60_000_000_000
STATES = "R,S,D,Z,T,t,W,X,x,K,W,P,I"
_MAX_COMM = 64
"""Bytes: kernel threads have longer names than tasks."""
_MAX_TIME = 32
_RIGHT = {"columns.alignment": "right"}
_PERCENT = _RIGHT | {"columns.maxwidth": "8", "columns.precision": "1"}
_BYTES = ("type:gadget_bytes",)

_PID = Member("pid", Kind.INT32, {"template": "pid"})
_MNTNS = Member("mountnsid", Kind.UINT64, {"template": "mntns_id"}, ("type:gadget_mntns_id",))
_BY_CHOICE: dict[str, tuple[Member, ...]] = {
    "pid": (),
    "ppid": (Member("ppid", Kind.INT32, {"template": "ppid"}),),
    "comm": (Member("comm", Kind.STRING, {"template": "comm"}, size=_MAX_COMM),),
    "priority": (
        Member("priority", Kind.INT8, _RIGHT | described("Priority, as the scheduler sees it")),
    ),
    "nice": (Member("nice", Kind.INT8, _RIGHT | described("Nice value, -20 to 19")),),
    "cpuUsage": (
        Member(
            "cpuUsage",
            Kind.FLOAT64,
            _PERCENT | described("Processor time since the last report, percent of one processor"),
        ),
    ),
    "cpuUsageRelative": (
        Member(
            "cpuUsageRelative",
            Kind.FLOAT64,
            _PERCENT | described("Processor time since the last report, percent of all processors"),
        ),
    ),
    "memoryRSS": (
        Member(
            "memoryRSS_raw", Kind.UINT64, _RIGHT | described("Resident memory in bytes"), _BYTES
        ),
    ),
    "memoryVirtual": (
        Member(
            "memoryVirtual_raw", Kind.UINT64, _RIGHT | described("Mapped memory in bytes"), _BYTES
        ),
    ),
    "memoryShared": (
        Member(
            "memoryShared_raw",
            Kind.UINT64,
            _RIGHT | described("Resident memory of files and shared memory in bytes"),
            _BYTES,
        ),
    ),
    "memoryRelative": (
        Member(
            "memoryRelative",
            Kind.FLOAT64,
            _PERCENT | described("Resident memory, percent of the machine's"),
        ),
    ),
    "threadCount": (Member("threadCount", Kind.INT32, _RIGHT | described("Number of threads")),),
    "state": (
        Member(
            "state",
            Kind.STRING,
            described("State of the first thread") | {"value.one-of": STATES},
            size=1,
        ),
    ),
    "uid": (Member("uid", Kind.UINT32, {"template": "uid"}),),
    "startTime": (
        Member(
            "startTime",
            Kind.UINT64,
            described("Start in clock ticks since the machine's", hidden="true"),
        ),
        Member(
            "startTimeStr",
            Kind.STRING,
            described("Start as date and time", maxwidth="25", ellipsis="start"),
            size=_MAX_TIME,
        ),
    ),
    "cpuTime": (
        Member(
            "cpuTime",
            Kind.INT64,
            described("Processor time since the start, in clock ticks", hidden="true"),
        ),
        Member(
            "cpuTimeStr",
            Kind.STRING,
            _RIGHT
            | described("Processor time since the start, minutes and seconds", maxwidth="12"),
            size=_MAX_TIME,
        ),
    ),
}


class ProcessStats(Operator):
    name: ClassVar[str] = "process"
    priority: ClassVar[int] = -1000

    def __init__(self) -> None:
        self._samples: Samples | None = None
        self._pace: Pace | None = None
        self._chosen: frozenset[str] = frozenset()
        self._reader: ProcessReader | None = None

    def instantiate(self, ctx: Context) -> bool:
        """Declare the array.

        Raises:
            MetadataError: ``operator.process`` of gadget.yaml has a wrong value, or the gadget has
                a data source of that name.
        """
        metadata = ctx.spec.metadata
        if not _samples.is_wanted(metadata, self.name):
            return False
        self._pace = pace = _samples.pace(metadata, self.name, DEFAULT_INTERVAL)
        ds = _samples.declare_array(ctx, DATASOURCE, format_duration(pace.interval))
        chosen = _chosen(Metadata(metadata).text_list(["operator", self.name, "fields"]), ds)
        self._chosen = frozenset(chosen)
        members = [member for name in chosen for member in _BY_CHOICE[name]]
        self._samples = Samples(ds, [_PID, *members, _MNTNS])
        return True

    def start(self, ctx: Context, running: Running) -> None:
        from ig_py.operators._processes import ProcessReader

        self._reader = ProcessReader(running.host.view, self._chosen)
        # The first report is compared with this reading.
        for _ in self._reader.read():
            pass
        assert self._pace is not None
        self._pace.apply(running, lambda: self._report(running))

    def _report(self, running: Running) -> None:
        assert self._reader is not None
        assert self._samples is not None
        pack, selects = self._samples.pack, running.host.selects
        try:
            rows = list(self._reader.read())
        except HostReadError as error:
            running.host.view.failures.add(error)
            return
        running.emit(DATASOURCE, [pack(row) for row in rows if selects(int(row["mountnsid"]))])


def _chosen(fields: list[str], ds: DataSourceSpec) -> list[str]:
    """Known names in their order, each once; all names when *fields* is empty."""
    unknown = [name for name in fields if name not in _BY_CHOICE]
    for name in dict.fromkeys(unknown):
        ds.notes.append(f"gadget.yaml: operator.process.fields: there is no field {name!r}")
    return list(dict.fromkeys(name for name in fields or _BY_CHOICE if name in _BY_CHOICE))
