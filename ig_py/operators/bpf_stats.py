"""``ebpf``: an array of what eBPF programs take, for gadgets that ask for it in gadget.yaml.

Facts: spec ebpf-runtime §2.9. The kernel counts run times while somebody wants them
(BPF_ENABLE_STATS), and only those.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ig_py.errors import KernelError, UsageError
from ig_py.gadget.duration import format_duration, parse_duration
from ig_py.gadget.spec import Kind, ParamSpec
from ig_py.operators import _samples
from ig_py.operators._samples import Member, Samples, Value
from ig_py.operators.base import Context, Operator

if TYPE_CHECKING:
    from ig_py._core import ProgramStatistics
    from ig_py.operators._bpf_holders import Holders

DATASOURCE = "bpfstats"
PREFIX = "operator.ebpf."
INTERVAL = "statistics-interval"
GADGETS_ONLY = "gadgets-only"
DEFAULT_INTERVAL = "1000ms"
NODE = "NODE_NAME"
SWITCH = Path("/proc/sys/kernel/bpf_stats_enabled")
MAX_LIST = 4096
"""Bytes of a list of processes."""

_RIGHT = {"columns.alignment": "right"}
_KEY = {"metrics.type": "key"}


def _said(description: str, width: int = 0, **more: str) -> dict[str, str]:
    annotations = {"description": description}
    if width:
        annotations["columns.width"] = str(width)
    return annotations | {f"columns.{key}": value for key, value in more.items()}


def _amount(description: str, width: int, kind: str = "") -> dict[str, str]:
    return _RIGHT | _said(description, width) | ({"metrics.type": kind} if kind else {})


_NODE = Member("nodeName", Kind.STRING, _KEY | {"template": "node"}, size=256)
_MEMBERS = (
    Member("gadgetID", Kind.STRING, _said("Id of the gadget's run", 8), size=32),
    Member("gadgetName", Kind.STRING, _KEY | _said("The gadget's name", 16), size=256),
    Member("gadgetImage", Kind.STRING, _KEY | _said("What the gadget was run as", 16), size=512),
    Member("progID", Kind.UINT32, _amount("The kernel's number of the program", 5)),
    Member("progName", Kind.STRING, _KEY | _said("The program's name", fixed="16"), size=16),
    Member("progType", Kind.STRING, _said("The program's type", 16), size=32),
    Member(
        "cpuUsage",
        Kind.FLOAT64,
        _RIGHT | _said("Percent of one processor", 8, alias="%CPU", precision="2"),
    ),
    Member(
        "cpuUsageRelative",
        Kind.FLOAT64,
        _RIGHT | _said("Percent of all processors", 8, alias="%RELCPU", precision="2"),
    ),
    Member(
        "cpuTimeStr",
        Kind.STRING,
        _RIGHT | _said("Time that was counted since the program was loaded", 12, alias="TIME+"),
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
    Member("comms", Kind.STRING, _said("Names of processes that hold it", 16), size=MAX_LIST),
    Member("pids", Kind.STRING, _said("Processes that hold it", 16), size=MAX_LIST),
)

_TYPES = (
    "UnspecifiedProgram", "SocketFilter", "Kprobe", "SchedCLS", "SchedACT", "TracePoint", "XDP",
    "PerfEvent", "CGroupSKB", "CGroupSock", "LWTIn", "LWTOut", "LWTXmit", "SockOps", "SkSKB",
    "CGroupDevice", "SkMsg", "RawTracepoint", "CGroupSockAddr", "LWTSeg6Local", "LircMode2",
    "SkReuseport", "FlowDissector", "CGroupSysctl", "RawTracepointWritable", "CGroupSockopt",
    "Tracing", "StructOps", "Extension", "LSM", "SkLookup", "Syscall", "Netfilter",
)  # fmt: skip
"""By the kernel's number, as the compatible system writes them."""


class BpfStats(Operator):
    name: ClassVar[str] = "ebpf"
    priority: ClassVar[int] = 0

    def __init__(self) -> None:
        self._samples: Samples | None = None
        self._gadgets_only = False
        self._statistics: ProgramStatistics | None = None
        self._switched = False
        self._holders: Holders | None = None
        self._before: dict[int, tuple[int, int]] = {}
        self._read_at = 0
        self._run_id = ""

    def instantiate(self, ctx: Context) -> bool:
        """Raises UsageError for parameters that do not fit."""
        if not _samples.is_wanted(ctx.spec.metadata, self.name):
            return False
        ctx.spec.params += _params()
        text = ctx.param(PREFIX + INTERVAL) or DEFAULT_INTERVAL
        interval = _interval(text)
        self._gadgets_only = ctx.param(PREFIX + GADGETS_ONLY).lower() == "true"
        ds = _samples.declare(ctx, DATASOURCE, text, {"cli.clear-screen-before": "true"})
        members = (_NODE, *_MEMBERS) if os.environ.get(NODE) else _MEMBERS
        self._samples = Samples(ds, members)
        ctx.every(interval, lambda: self._report(ctx))
        return True

    def start(self, ctx: Context) -> None:
        """Raises KernelError where nothing can be counted."""
        from ig_py.containers.proc import HostView
        from ig_py.operators._bpf_holders import Holders

        self._run_id = os.urandom(16).hex()
        self._statistics = self._count()
        self._holders = Holders(HostView.from_env())
        for number, _, _, run_time, runs, _ in self._read()[0]:
            self._before[number] = (run_time, runs)
        self._read_at = time.monotonic_ns()

    def stop(self, ctx: Context) -> None:
        if self._statistics is not None:
            self._statistics.close()
            self._statistics = None
        if self._switched:
            self._switched = False
            SWITCH.write_text("0")

    def _count(self) -> ProgramStatistics:
        from ig_py._core import CoreError, ProgramStatistics

        try:
            return ProgramStatistics()
        except CoreError as error:
            why = str(error.args[1])
            if error.args[0] != "unsupported":
                raise KernelError(why) from error
        # Before Linux 5.8 there is one switch for all (5.1), which others may have set.
        try:
            if SWITCH.read_text().strip() == "0":
                SWITCH.write_text("1")
                self._switched = True
        except OSError as error:
            raise KernelError(
                f"{why}, and {SWITCH} cannot be set: {error.strerror}",
                remedy="Linux 5.1 and later can",
            ) from error
        return ProgramStatistics(count=False)

    def _read(self) -> tuple[list[tuple[int, int, str, int, int, list[int]]], dict[int, int]]:
        from ig_py._core import CoreError

        assert self._statistics is not None
        try:
            return self._statistics.read()
        except CoreError as error:
            raise KernelError(f"reading what eBPF programs take: {error.args[1]}") from error

    def _report(self, ctx: Context) -> None:
        assert self._samples is not None
        assert self._holders is not None
        programs, memory = self._read()
        now = time.monotonic_ns()
        elapsed, self._read_at = max(1, now - self._read_at), now
        before, self._before = self._before, {}
        own = set(ctx.object.program_ids()) if ctx.object is not None else set()
        held = self._holders.of({program[0] for program in programs})
        gadget = self._gadget(ctx)
        total = _Taken(elapsed)
        rows: list[dict[str, Value]] = []
        for number, kind, name, run_time, runs, maps in programs:
            self._before[number] = (run_time, runs)
            # Unknown ones were loaded since.
            known = before.get(number, (0, 0))
            taken = _Taken(elapsed)
            taken.add((run_time, runs), known, maps)
            comms, pids = held.get(number, ("", ""))
            row: dict[str, Value] = {
                "progID": number,
                "progName": name.encode(),
                "progType": _type(kind).encode(),
                "comms": comms.encode(),
                "pids": pids.encode(),
            }
            rows.append(row | (gadget if number in own else _NOBODY) | taken.values(memory))
            if number in own:
                total.add((run_time, runs), known, maps)
        if self._gadgets_only:
            rows = [_WHOLE | gadget | total.values(memory)] if own else []
        node = os.environ.get(NODE, "").encode()
        ctx.emit(DATASOURCE, [self._samples.pack({"nodeName": node, **row}) for row in rows])

    def _gadget(self, ctx: Context) -> dict[str, Value]:
        return {
            "gadgetID": self._run_id.encode(),
            "gadgetName": ctx.spec.name.encode(),
            "gadgetImage": ctx.image.encode(),
        }


_NOBODY: dict[str, Value] = {"gadgetID": b"", "gadgetName": b"", "gadgetImage": b""}
_WHOLE: dict[str, Value] = {
    "progID": 0,
    "progName": b"",
    "progType": b"",
    "comms": b"",
    "pids": b"",
}


class _Taken:
    """What one program, or several, took within *elapsed* ns; totals since they were loaded."""

    def __init__(self, elapsed: int) -> None:
        self._elapsed = elapsed
        self._time = self._runs = self._total = 0
        self._maps: set[int] = set()

    def add(self, now: tuple[int, int], before: tuple[int, int], maps: list[int]) -> None:
        """*now* and *before*: ns and runs since a program was loaded."""
        self._time += max(0, now[0] - before[0])
        self._runs += max(0, now[1] - before[1])
        self._total += now[0]
        self._maps.update(maps)

    def values(self, memory: dict[int, int]) -> dict[str, Value]:
        usage = 100 * self._time / self._elapsed
        return {
            "cpuUsage": usage,
            "cpuUsageRelative": usage / (os.cpu_count() or 1),
            "cpuTimeStr": format_duration(self._total).encode(),
            "runtime_raw": self._time,
            "runcount": self._runs,
            "mapMemory_raw": sum(memory.get(number, 0) for number in self._maps),
            "mapCount": len(self._maps),
        }


def _type(kind: int) -> str:
    return _TYPES[kind] if kind < len(_TYPES) else f"ProgramType({kind})"


def _interval(text: str) -> int:
    try:
        interval = parse_duration(text)
    except ValueError:
        raise UsageError(f'--{INTERVAL}: "{text}" is no duration') from None
    if interval < _samples.SHORTEST_NS:
        shortest = format_duration(_samples.SHORTEST_NS)
        raise UsageError(f'--{INTERVAL}: "{text}" is shorter than {shortest}')
    return interval


def _params() -> list[ParamSpec]:
    return [
        ParamSpec(
            key=INTERVAL,
            prefix=PREFIX,
            default=DEFAULT_INTERVAL,
            title="Statistics interval",
            description="Time between two reports of what eBPF programs take",
            type_hint="duration",
        ),
        ParamSpec(
            key=GADGETS_ONLY,
            prefix=PREFIX,
            default="false",
            title="Gadgets only",
            description="Sums of gadgets instead of single programs",
            type_hint="bool",
        ),
    ]
