"""``ebpf``: an array of the run time and memory of eBPF programs, for gadgets that ask for it in
gadget.yaml.

Facts: docs/reference/operators.md#statistics-of-programs. The kernel counts run times while
a descriptor of BPF_ENABLE_STATS is open.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ig_py.errors import KernelError
from ig_py.gadget.duration import format_duration, parse_interval
from ig_py.gadget.spec import Kind, ParamSpec
from ig_py.host.files import HostReadError
from ig_py.operators import _samples
from ig_py.operators._samples import Member, Samples, Value, described
from ig_py.operators.base import Context, Operator

if TYPE_CHECKING:
    from ig_py._core import ProgramStatistics
    from ig_py.operators._bpf_holders import Holders
    from ig_py.operators.running import Running

log = logging.getLogger(__name__)

DATASOURCE = "bpfstats"
PREFIX = "operator.ebpf."
INTERVAL = "statistics-interval"
GADGETS_ONLY = "gadgets-only"
DEFAULT_INTERVAL = "1000ms"
NODE = "NODE_NAME"
SWITCH = Path("/proc/sys/kernel/bpf_stats_enabled")
MAX_LIST = 4096
"""Most bytes of a list of processes."""

_Program = tuple[int, int, str, int, int, list[int]]
"""Number, type, name, run time in ns, runs, numbers of its maps."""

_RIGHT = {"columns.alignment": "right"}
_KEY = {"metrics.type": "key"}


def _amount(description: str, width: int, kind: str = "") -> dict[str, str]:
    return _RIGHT | described(description, width=width) | ({"metrics.type": kind} if kind else {})


_NODE = Member("nodeName", Kind.STRING, _KEY | {"template": "node"}, size=256)
_MEMBERS = (
    Member("gadgetID", Kind.STRING, described("Id of the gadget's run", width=8), size=32),
    Member("gadgetName", Kind.STRING, _KEY | described("The gadget's name", width=16), size=256),
    Member(
        "gadgetImage",
        Kind.STRING,
        _KEY | described("What the gadget was run as", width=16),
        size=512,
    ),
    Member("progID", Kind.UINT32, _amount("The kernel's number of the program", 5)),
    Member("progName", Kind.STRING, _KEY | described("The program's name", fixed="16"), size=16),
    Member("progType", Kind.STRING, described("The program's type", width=16), size=32),
    Member(
        "cpuUsage",
        Kind.FLOAT64,
        _RIGHT | described("Percent of one processor", width=8, alias="%CPU", precision="2"),
    ),
    Member(
        "cpuUsageRelative",
        Kind.FLOAT64,
        _RIGHT | described("Percent of all processors", width=8, alias="%RELCPU", precision="2"),
    ),
    Member(
        "cpuTimeStr",
        Kind.STRING,
        _RIGHT
        | described("Time that was counted since the program was loaded", width=12, alias="TIME+"),
        size=32,
    ),
    Member(
        "runtime_raw",
        Kind.UINT64,
        _amount("Time since the last report in ns", 12, "counter"),
        ("type:gadget_duration",),
    ),
    Member("runcount", Kind.UINT64, _amount("Runs since the last report", 12, "counter")),
    Member(
        "mapMemory_raw",
        Kind.UINT64,
        _amount("Memory of the maps in bytes", 12, "gauge"),
        ("type:gadget_bytes",),
    ),
    Member("mapCount", Kind.UINT64, _amount("Number of maps", 5, "gauge")),
    Member(
        "comms", Kind.STRING, described("Names of processes that hold it", width=16), size=MAX_LIST
    ),
    Member("pids", Kind.STRING, described("Processes that hold it", width=16), size=MAX_LIST),
)

_TYPES = (
    "UnspecifiedProgram", "SocketFilter", "Kprobe", "SchedCLS", "SchedACT", "TracePoint", "XDP",
    "PerfEvent", "CGroupSKB", "CGroupSock", "LWTIn", "LWTOut", "LWTXmit", "SockOps", "SkSKB",
    "CGroupDevice", "SkMsg", "RawTracepoint", "CGroupSockAddr", "LWTSeg6Local", "LircMode2",
    "SkReuseport", "FlowDissector", "CGroupSysctl", "RawTracepointWritable", "CGroupSockopt",
    "Tracing", "StructOps", "Extension", "LSM", "SkLookup", "Syscall", "Netfilter",
)  # fmt: skip
"""By the kernel's number, as ``ig`` writes them."""


class BpfStats(Operator):
    name: ClassVar[str] = "ebpf"
    priority: ClassVar[int] = 0

    def __init__(self) -> None:
        self._samples: Samples | None = None
        self._interval = 0
        self._gadgets_only = False
        self._statistics: ProgramStatistics | None = None
        self._switched = False
        self._holders: Holders | None = None
        self._before: dict[int, tuple[int, int]] = {}
        self._read_at = 0
        self._run_id = ""

    def instantiate(self, ctx: Context) -> bool:
        """Declare the array.

        Raises:
            UsageError: The interval is no duration, or too short.
            MetadataError: The gadget has a data source of that name.
        """
        if not _samples.is_wanted(ctx.spec.metadata, self.name):
            return False
        ctx.spec.params += _params()
        text = ctx.param(PREFIX + INTERVAL) or DEFAULT_INTERVAL
        self._interval = parse_interval(text, f"--{INTERVAL}")
        self._gadgets_only = ctx.switch(PREFIX + GADGETS_ONLY)
        ds = _samples.declare_array(ctx, DATASOURCE, text, {"cli.clear-screen-before": "true"})
        members = (_NODE, *_MEMBERS) if os.environ.get(NODE) else _MEMBERS
        self._samples = Samples(ds, members)
        return True

    def start(self, ctx: Context, running: Running) -> None:
        """Make the kernel count, and read the first counts.

        Raises:
            KernelError: The kernel does not count run times, or refuses.
            ContainerError: HOST_ROOT has no /proc.
        """
        from ig_py.operators._bpf_holders import Holders

        running.host.view.require()
        self._run_id = os.urandom(16).hex()
        self._statistics = self._count()
        self._holders = Holders(running.host.view)
        self._before = _totals(self._read()[0])
        self._read_at = time.monotonic_ns()
        running.every(self._interval, lambda: self._report(ctx, running))

    def stop(self) -> None:
        if self._statistics is not None:
            self._statistics.close()
            self._statistics = None
        if self._switched:
            self._switched = False
            try:
                SWITCH.write_text("0")
            except OSError as error:
                log.warning(
                    "setting %s back to 0: %s; the kernel goes on counting", SWITCH, error.strerror
                )

    def _count(self) -> ProgramStatistics:
        from ig_py._core import CoreError, ProgramStatistics

        try:
            return ProgramStatistics()
        except CoreError as error:
            why = error.message
            if error.kind != "unsupported":
                raise KernelError(
                    f"counting run times of eBPF programs: {why}",
                    remedy="run as root, or with CAP_SYS_ADMIN",
                ) from error
        # Before Linux 5.8 there is only one switch (5.1), which another tool may have set.
        try:
            if SWITCH.read_text().strip() == "0":
                SWITCH.write_text("1")
                self._switched = True
        except OSError as error:
            raise KernelError(
                f"counting run times of eBPF programs: {why}, and {SWITCH} cannot be set: "
                f"{error.strerror}",
                remedy="use a kernel that counts them: Linux 5.1 or later",
            ) from error
        return ProgramStatistics(count=False)

    def _read(self) -> tuple[list[_Program], dict[int, int]]:
        from ig_py._core import CoreError

        assert self._statistics is not None
        try:
            return self._statistics.read()
        except CoreError as error:
            raise KernelError(
                f"reading run times of eBPF programs: {error.message}",
                remedy="run as root, or with CAP_SYS_ADMIN",
            ) from error

    def _report(self, ctx: Context, running: Running) -> None:
        assert self._samples is not None
        assert self._holders is not None
        programs, memory = self._read()
        held: dict[int, tuple[str, str]] = {}
        if not self._gadgets_only:
            try:
                held = self._holders.of({program[0] for program in programs})
            except HostReadError as error:
                # The next report is about this time, too.
                running.host.view.failures.add(error)
                return
        now = time.monotonic_ns()
        usage = _Usage(max(1, now - self._read_at), self._before, memory)
        self._read_at, self._before = now, _totals(programs)
        own = set(running.object.program_ids()) if running.object is not None else set()
        gadget: dict[str, Value] = {
            "gadgetID": self._run_id,
            "gadgetName": ctx.spec.name,
            "gadgetImage": ctx.image,
        }
        rows: list[dict[str, Value]] = []
        if self._gadgets_only:
            if own:
                rows = [_NO_PROGRAM | gadget | usage.by([p for p in programs if p[0] in own])]
        else:
            for program in programs:
                number, kind, name = program[:3]
                comms, pids = held.get(number, ("", ""))
                row: dict[str, Value] = {
                    "progID": number,
                    "progName": name,
                    "progType": _type(kind),
                    "comms": comms,
                    "pids": pids,
                }
                rows.append(row | (gadget if number in own else _NO_GADGET) | usage.by([program]))
        node = os.environ.get(NODE, "")
        running.emit(DATASOURCE, [self._samples.pack({"nodeName": node, **row}) for row in rows])


_NO_GADGET: dict[str, Value] = {"gadgetID": "", "gadgetName": "", "gadgetImage": ""}
_NO_PROGRAM: dict[str, Value] = {
    "progID": 0,
    "progName": "",
    "progType": "",
    "comms": "",
    "pids": "",
}


def _totals(programs: list[_Program]) -> dict[int, tuple[int, int]]:
    """Run time in ns and runs since each program was loaded."""
    return {number: (spent, runs) for number, _, _, spent, runs, _ in programs}


class _Usage:
    """Use of programs within *elapsed* ns, since their totals were *before*."""

    def __init__(
        self, elapsed: int, before: dict[int, tuple[int, int]], memory: dict[int, int]
    ) -> None:
        self._elapsed = elapsed
        self._before = before
        self._memory = memory

    def by(self, programs: list[_Program]) -> dict[str, Value]:
        """Values by field name of all *programs* together; a map that several use counts once."""
        time = count = total = 0
        maps: set[int] = set()
        for number, _, _, spent, runs, used in programs:
            # A program without earlier totals was loaded since.
            known_time, known_runs = self._before.get(number, (0, 0))
            time += max(0, spent - known_time)
            count += max(0, runs - known_runs)
            total += spent
            maps.update(used)
        usage = 100 * time / self._elapsed
        return {
            "cpuUsage": usage,
            "cpuUsageRelative": usage / (os.cpu_count() or 1),
            "cpuTimeStr": format_duration(total),
            "runtime_raw": time,
            "runcount": count,
            "mapMemory_raw": sum(self._memory.get(number, 0) for number in maps),
            "mapCount": len(maps),
        }


def _type(kind: int) -> str:
    return _TYPES[kind] if kind < len(_TYPES) else f"ProgramType({kind})"


def _params() -> list[ParamSpec]:
    return [
        ParamSpec(
            key=INTERVAL,
            prefix=PREFIX,
            default=DEFAULT_INTERVAL,
            title="Statistics interval",
            description="Time between two reports of run times",
            type_hint="duration",
        ),
        ParamSpec(
            key=GADGETS_ONLY,
            prefix=PREFIX,
            default="false",
            title="Gadgets only",
            description="Report the sum of the gadget's programs instead of single programs",
            type_hint="bool",
        ),
    ]
