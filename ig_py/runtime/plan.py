"""The plan: what the core's pipeline does with each sample (docs/plan.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ig_py.gadget.load import loss_counter
from ig_py.gadget.plan_fields import PLAN_VERSION, plan_fields
from ig_py.gadget.sections import bare
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, GadgetSpec
from ig_py.operators.parts import PlanParts
from ig_py.operators.places import STEPS, place
from ig_py.records import dataclass, field

NETNS_ITERATORS = frozenset({"tcp", "udp", "unix", "netlink", "ipv6_route"})
"""Iterators that see one network namespace: kernel, ``bpf_iter_init_seq_net``."""


@dataclass(frozen=True)
class DataSourceOutput:
    """What is rendered of one data source (docs/plan.md, ``output``).

    Attributes:
        mode: ``json``, ``jsonpretty``, ``yaml``, ``columns``, ``none``, ``text`` or ``pcap-ng``.
        columns: For ``columns``, as in the plan.
        keep: Also keep the events for ``Batch.rows()``.
        terminal: JSON and text are for a terminal: what controls it, or is invisible, is escaped.
        header: Text before the rows of each array, and before each text.
        capture: For ``pcap-ng``, as in the plan.
    """

    mode: str = "none"
    columns: Sequence[Mapping[str, Any]] = ()
    keep: bool = False
    terminal: bool = False
    header: str = ""
    capture: Mapping[str, Any] | None = None


@dataclass
class Clock:
    """How boot timestamps become wall-clock times; by default as those of this machine and process.

    Attributes:
        offset_ns: Realtime minus boottime; None: the core measures it whenever the clock is set.
        zone_s: Seconds east of UTC; None: what this process's time zone says of each time.
    """

    offset_ns: int | None = None
    zone_s: int | None = None


@dataclass
class PlanSettings:
    """The run's share of a plan, beside what the gadget and its operators declare.

    Attributes:
        outputs: What is rendered, by data source name; none means mode ``none``.
        clock: For times of another machine, and for tests.
        readers: False: samples are pushed, and no map or program is named.
        backlog_bytes: Samples that may wait to be rendered; None: the core decides.
        perf_bytes: Each CPU's buffer by map, where the map is a perf event array; the core decides
            about others.
        proc: Where the host's processes are.
        pidns: The pid namespace whose numbers *proc* shows; 0: not known.
    """

    outputs: Mapping[str, DataSourceOutput] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    readers: bool = True
    backlog_bytes: int | None = None
    perf_bytes: Mapping[str, int] = field(default_factory=dict)
    proc: str = "/proc"
    pidns: int = 0


def compile_plan(spec: GadgetSpec, parts: PlanParts, settings: PlanSettings) -> str:
    """The plan as JSON text.

    Raises:
        ObjectError: A field has a type that the core cannot show.
    """
    return json.dumps(
        {
            "version": PLAN_VERSION,
            "clock_offset_ns": settings.clock.offset_ns,
            "timezone_offset_s": settings.clock.zone_s,
            "proc": settings.proc,
            "pidns": settings.pidns,
            **({"backlog_bytes": settings.backlog_bytes} if settings.backlog_bytes else {}),
            **({"symbols": dict(parts.symbols)} if parts.symbols else {}),
            "datasources": [_datasource(spec, ds, parts, settings) for ds in spec.datasources],
        }
    )


def _datasource(
    spec: GadgetSpec, ds: DataSourceSpec, parts: PlanParts, settings: PlanSettings
) -> dict[str, Any]:
    output = settings.outputs.get(ds.name, DataSourceOutput())
    rendered: dict[str, Any] = {"mode": output.mode}
    if output.terminal:
        rendered["terminal"] = True
    if output.mode == "columns":
        rendered["columns"] = list(output.columns)
    if output.capture is not None:
        rendered["capture"] = dict(output.capture)
    if output.header:
        rendered["header"] = output.header
    steps = sorted(parts.steps.get(ds.name, ()), key=lambda step: step.place)
    plan: dict[str, Any] = {
        "name": ds.name,
        "sample_size": ds.sample_size,
        "min_size": 0,
        "keep": output.keep,
        "fields": plan_fields(ds),
        "steps": [step.body for step in steps if place(step.priority) == STEPS],
        "filters": list(parts.filters.get(ds.name, ())),
        "conditions": list(parts.conditions.get(ds.name, ())),
        "output": rendered,
    }
    for step in steps:
        if (behind := place(step.priority)) != STEPS:
            plan.setdefault("behind", {}).setdefault(behind, []).append(step.body)
    if ds.rest is not None:
        plan["rest"] = {"field": ds.rest, "length": ds.rest_length}
    if ds.type == DataSourceType.ARRAY:
        plan |= _array(ds, parts)
        if settings.readers:
            plan |= _reader(spec, ds)
    if ds.source == "operator":
        plan["pushed"] = True
    if ds.name in parts.metrics:
        plan["metrics"] = parts.metrics[ds.name]
    if settings.readers and ds.source == "tracer":
        plan["map"] = ds.map
        if ds.map in settings.perf_bytes:
            plan["perf_bytes"] = settings.perf_bytes[ds.map]
        plan |= loss_counter(spec, ds.map)
    return plan


def _array(ds: DataSourceSpec, parts: PlanParts) -> dict[str, Any]:
    plan: dict[str, Any] = {"array": True}
    if keys := parts.sorts.get(ds.name):
        plan["sort"] = list(keys)
    if ds.name in parts.limits:
        plan["limit"] = parts.limits[ds.name]
    return plan


def _reader(spec: GadgetSpec, ds: DataSourceSpec) -> dict[str, Any]:
    """Where the elements of an array are read from."""
    if ds.source == "mapiter":
        return {"read_from": {"map": ds.map}}
    programs = [
        {"name": p.name, "netns": _of_netns(p.section), "map": spec.targets.get(p.name)}
        for p in spec.programs
        if ds.source == "iter" and p.name in ds.programs and not p.disabled
    ]
    return {"read_from": {"programs": programs}} if programs else {}


def _of_netns(section: str) -> bool:
    return bare(section).partition("/")[2] in NETNS_ITERATORS
