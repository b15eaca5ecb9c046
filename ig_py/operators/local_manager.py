"""LocalManager: which containers' events pass, and the containers' names in every event.

Facts: docs/reference/operators.md#containers.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, ClassVar

from ig_py.errors import UsageError
from ig_py.gadget.datasource import add_field
from ig_py.gadget.sections import needs_containers
from ig_py.gadget.spec import DataSourceSpec, FieldSpec, Flag, GadgetSpec, Kind, MapSpec, ParamSpec
from ig_py.operators import _containers_source
from ig_py.operators._local_params import PREFIX, SELECTOR_KEYS, global_params, instance_params
from ig_py.operators.base import Context, Operator

if TYPE_CHECKING:
    from ig_py.containers.ended_rows import EndedRows
    from ig_py.containers.selector import Selector
    from ig_py.containers.tracker import ContainerTracker
    from ig_py.operators._samples import Samples
    from ig_py.operators.parts import LoadParts
    from ig_py.operators.running import Host, Running

log = logging.getLogger(__name__)

FILTER_MAP = "gadget_mntns_filter_map"
FILTER_SWITCH = "gadget_filter_by_mntns"
MNTNS_TYPE = "gadget_mntns_id"
NETNS_TYPE = "gadget_netns_id"
STEP_PRIORITY = 0
MAX_IDENTIFY_SECONDS = 60

# name, kind, order, annotations (None: the base ones): docs/reference/operators.md#containers.
_K8S: tuple[tuple[str, Kind, int, dict[str, str] | None], ...] = (
    ("node", Kind.STRING, -31, {"template": "node"}),
    ("namespace", Kind.STRING, -30, {"template": "namespace"}),
    ("podName", Kind.STRING, -29, {"template": "pod"}),
    ("containerName", Kind.STRING, -28, {"template": "container"}),
    ("hostnetwork", Kind.BOOL, -27, None),
    ("podLabels", Kind.STRING, -26, None),
)
_OWNER = ("kind", "name")
_RUNTIME: tuple[tuple[str, Kind, int, dict[str, str] | None], ...] = (
    ("containerName", Kind.STRING, -27, {"template": "container"}),
    ("runtimeName", Kind.STRING, -26, {"columns.width": "19", "columns.fixed": "true"}),
    ("containerId", Kind.STRING, -25, {"columns.width": "13", "columns.maxwidth": "64"}),
    ("containerPid", Kind.UINT32, -24, {"template": "containerPid"}),
    ("containerImageName", Kind.STRING, -23, None),
    ("containerImageDigest", Kind.STRING, -22, None),
    ("containerStartedAt", Kind.INT64, -21, None),
)
_K8S_TAG = "kubernetes"


class LocalManager(Operator):
    """Filters and enriches by the containers of this host."""

    name: ClassVar[str] = "LocalManager"
    priority: ClassVar[int] = -1

    def __init__(self) -> None:
        self._tracker: ContainerTracker | None = None
        self._samples: Samples | None = None
        self._ended: EndedRows | None = None

    @classmethod
    def global_params(cls) -> list[ParamSpec]:
        return global_params()

    def instantiate(self, ctx: Context) -> bool:
        enriched = False
        for ds in ctx.spec.datasources:
            enriched |= _enrich(ctx, ds)
        self._samples = _containers_source.declare(ctx.spec)
        needed = enriched or _filter_map(ctx.spec) or _needs_containers(ctx.spec)
        if not (needed or self._samples):
            return False
        ctx.spec.params.extend(instance_params())
        return True

    def pre_start(self, ctx: Context, load: LoadParts, host: Host) -> None:
        """Create the filter map and begin to look for containers, while the object loads.

        Raises:
            UsageError: A parameter is malformed.
            ContainerError: A runtime that the user named cannot be used, or the host's /proc
                cannot be seen.
            KernelError: The kernel makes no map.
        """
        from ig_py.containers.tracker import ContainerTracker, TrackerSettings

        _refuse_unsupported(ctx)
        _hold_seconds(ctx)
        whole_host = ctx.switch(PREFIX + "host")
        if whole_host and self._samples is None:
            _refuse_selection(ctx)
        settings = TrackerSettings.from_params(
            lambda key: ctx.param(PREFIX + key),
            host.view,
            _selector(ctx),
            oci_configs=self._samples is not None,
            host=whole_host,
        )
        self._tracker = tracker = ContainerTracker(settings, host.view)
        declared = _filter_map(ctx.spec)
        if declared is not None and not whole_host:
            load.maps[FILTER_MAP] = tracker.create_filter(declared.max_entries)
            if any(v.name == FILTER_SWITCH for v in ctx.spec.variables):
                load.constants[FILTER_SWITCH] = True
        tracker.start_for_gadget(_identify_seconds(ctx))

    def start(self, ctx: Context, running: Running) -> None:
        """Wait for the containers that run already, and follow them from now on.

        Raises:
            ContainerError: Looking for containers could not be started, or runtimes cannot be
                held.
        """
        from ig_py.containers.selected_events import SelectedEvents

        tracker = self._tracker
        if tracker is None:
            return
        self._ended = running.host.ended = _ended_rows(ctx.spec)
        tracker.follow(running.stream, self._ended)
        tracker.keep(running.host.targets)
        running.host.provide_containers(tracker)
        if self._samples is not None:
            events = _containers_source.ContainerEvents(running, self._samples)
            if tracker.settings.host:
                events.emit_host(tracker.view)
            tracker.subscribe(SelectedEvents(tracker.settings.selector.matches, events))
        if ctx.switch(PREFIX + "hold-containers"):
            tracker.hold_runtimes(running.host.targets.after, _hold_seconds(ctx))
        tracker.warn_of_engines()
        if notice := tracker.nothing_selected():
            log.warning("%s; those that start later are traced", notice)

    def drained(self, running: Running) -> bool:
        """Wait a moment for the containers of events that are still pending."""
        if self._tracker is None:
            return False
        more = self._tracker.drain(running.stream)
        running.unseen = sum(self._tracker.unseen().values())
        return more

    def stop(self) -> None:
        if self._tracker is not None:
            self._tracker.stop()
            self._tracker = None
        if self._ended is not None:
            self._ended.close()


def _ended_rows(spec: GadgetSpec) -> EndedRows | None:
    """For the maps whose rows tell a mount namespace; None when there are none."""
    from ig_py.containers.ended_rows import EndedRows

    maps = [ds for ds in spec.datasources if ds.source == "mapiter"]
    found = frozenset(ds.name for ds in maps if any(f.has_type(MNTNS_TYPE) for f in ds.fields))
    return EndedRows(found) if found else None


def _filter_map(spec: GadgetSpec) -> MapSpec | None:
    return next((m for m in spec.maps if m.name == FILTER_MAP), None)


def _needs_containers(spec: GadgetSpec) -> bool:
    """True for programs that attach to each container by itself."""
    return any(needs_containers(p.section) for p in spec.programs if not p.disabled)


def _first(ds: DataSourceSpec, type_name: str) -> FieldSpec | None:
    found = [f for f in ds.fields if f.has_type(type_name)]
    if len(found) > 1:
        ds.notes.append(
            f"data source {ds.name!r}: several fields are of type {type_name};"
            f" containers are looked up by {found[0].full_name!r}"
        )
    return found[0] if found else None


def _enrich(ctx: Context, ds: DataSourceSpec) -> bool:
    """Add the container fields to a data source that tells a namespace."""
    mntns, netns = _first(ds, MNTNS_TYPE), _first(ds, NETNS_TYPE)
    if mntns is None and netns is None:
        return False
    filled: list[FieldSpec] = []
    if _is_free(ds, "k8s"):
        k8s = _group(ds, "k8s", Flag.HIDDEN)
        for name, kind, order, given in _K8S:
            filled.append(_leaf(ds, k8s, name, kind, order, given, Flag.HIDDEN, _K8S_TAG))
        owner = _group(ds, "owner", Flag.HIDDEN, parent=k8s)
        for name in _OWNER:
            filled.append(_leaf(ds, owner, name, Kind.STRING, 0, None, Flag.HIDDEN, _K8S_TAG))
    if _is_free(ds, "runtime"):
        runtime = _group(ds, "runtime", Flag(0))
        for name, kind, order, given in _RUNTIME:
            flags = Flag(0) if name == "containerName" else Flag.HIDDEN
            filled.append(_leaf(ds, runtime, name, kind, order, given, flags))
    ctx.plan.add_step(
        ds.name,
        STEP_PRIORITY,
        op="container",
        mntns=mntns.index if mntns else None,
        netns=netns.index if netns else None,
        fields={f.full_name: f.index for f in filled},
    )
    return True


def _is_free(ds: DataSourceSpec, group: str) -> bool:
    """False, with a note, when the event has a field of that name itself."""
    taken = ds.exact(group) is not None
    if taken:
        ds.notes.append(
            f"data source {ds.name!r}: the event's own field {group!r} stands where those of"
            f" containers would be ({group}.containerName, ...): they are missing, and `ig` does"
            " not run such a gadget; give the member another name"
        )
    return not taken


def _group(
    ds: DataSourceSpec, name: str, flags: Flag, parent: FieldSpec | None = None
) -> FieldSpec:
    return add_field(ds, name, Kind.INVALID, parent=parent, flags=flags | Flag.EMPTY)


def _leaf(
    ds: DataSourceSpec,
    parent: FieldSpec,
    name: str,
    kind: Kind,
    order: int,
    annotations: dict[str, str] | None,
    flags: Flag,
    *tags: str,
) -> FieldSpec:
    return add_field(
        ds,
        name,
        kind,
        parent=parent,
        annotations=annotations,
        order=order,
        flags=flags,
        tags=tags,
    )


def _identify_seconds(ctx: Context) -> float:
    from ig_py.containers.admission import DECIDE_SECONDS

    return _seconds(ctx, "identify-timeout", DECIDE_SECONDS, MAX_IDENTIFY_SECONDS)


def _hold_seconds(ctx: Context) -> float:
    from ig_py.containers.exec_hold import MAX_SECONDS

    return _seconds(ctx, "hold-timeout", MAX_SECONDS, MAX_SECONDS)


def _seconds(ctx: Context, key: str, default: float, most: float) -> float:
    from ig_py.gadget.duration import parse_duration

    given = ctx.param(PREFIX + key)
    if not given:
        return default
    try:
        seconds = parse_duration(given) / 1e9
    except ValueError:
        seconds = 0
    if not 0 < seconds <= most:
        raise UsageError(
            f"--{key}={given!a}: no time of at most {most:g} s",
            remedy=f'give a duration such as "{default:g}s"',
        )
    return seconds


def _selector(ctx: Context) -> Selector:
    from ig_py.containers.selector import Selector

    given = {}
    for argument, keys in SELECTOR_KEYS.items():
        values = (ctx.param(PREFIX + key) for key in keys)
        given[argument] = next((value for value in values if value), "")
    return Selector.parse(**given)


def _refuse_selection(ctx: Context) -> None:
    """Refuse to choose containers for programs whose events are all wanted.

    Raises:
        UsageError: A flag that chooses would have no effect.
    """
    if any(needs_containers(program.section) for program in ctx.spec.programs):
        return
    for key in itertools.chain.from_iterable(SELECTOR_KEYS.values()):
        if ctx.param(PREFIX + key):
            raise UsageError(
                f"--{key} has no effect with --host: the events of all are shown",
                remedy="leave one of them out",
            )


def _refuse_unsupported(ctx: Context) -> None:
    for param in global_params():
        if not param.unsupported:
            continue
        if ctx.switch(param.full_name) if param.type_hint == "bool" else ctx.param(param.full_name):
            raise UsageError(f"--{param.key}: {param.unsupported}", remedy="leave the flag out")
