"""LocalManager: which containers' events pass, and the containers' names in every event.

Facts: docs/reference/operators.md#containers.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from ig_py.errors import ContainerError, KernelError, UsageError
from ig_py.gadget.datasource import add_field
from ig_py.gadget.sections import needs_containers
from ig_py.gadget.spec import DataSourceSpec, FieldSpec, Flag, GadgetSpec, Kind, MapSpec, ParamSpec
from ig_py.operators import _containers_source
from ig_py.operators._local_params import PREFIX, SELECTOR_KEYS, global_params, instance_params
from ig_py.operators.base import Context, Operator

if TYPE_CHECKING:
    from ig_py.containers.discovery import Discovery
    from ig_py.containers.engines.client import RuntimeConfig
    from ig_py.containers.filter_map import FilterMap
    from ig_py.containers.hold import RuntimeHold
    from ig_py.containers.model import Container
    from ig_py.containers.selector import Selector
    from ig_py.host.proc import HostView
    from ig_py.operators._samples import Samples

log = logging.getLogger(__name__)

FILTER_MAP = "gadget_mntns_filter_map"
FILTER_SWITCH = "gadget_filter_by_mntns"
MNTNS_TYPE = "gadget_mntns_id"
NETNS_TYPE = "gadget_netns_id"
STEP_PRIORITY = 0
MAX_IDENTIFY_SECONDS = 60
LAST_SECONDS = 1.0
"""How long the end of a run waits at most for events' containers to be identified."""
LAST_STEP = 0.01
LIST_SECONDS = 10.0
"""How long attaching waits for the engines to say which containers run already. An engine that is
not there, or breaks off, says so at once; only one that is slow to answer takes this long."""

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
        self._starting: _Starting | None = None
        self._discovery: Discovery | None = None
        self._filter: FilterMap | None = None
        self._hold: RuntimeHold | None = None
        self._targets: object = None
        self._producer: object = None
        self._told: Samples | None = None

    @classmethod
    def global_params(cls) -> list[ParamSpec]:
        return global_params()

    def instantiate(self, ctx: Context) -> bool:
        enriched = False
        for ds in ctx.spec.datasources:
            enriched |= _enrich(ctx, ds)
        self._told = _containers_source.declare(ctx.spec)
        needed = enriched or _filter_map(ctx.spec) or _needs_containers(ctx.spec)
        if not (needed or self._told):
            return False
        ctx.spec.params.extend(instance_params())
        return True

    def pre_start(self, ctx: Context) -> None:
        """Create the filter map and begin to look for containers, while the object loads.

        :raises UsageError: a parameter is malformed.
        :raises ContainerError: a runtime the user named cannot be used, or the host not be seen.
        :raises KernelError: no map is to be had.
        """
        from ig_py.containers.engines.client import SOCKET_PARAMS, engineless, runtime_configs
        from ig_py.host.proc import HostView

        _refuse_unsupported(ctx)
        _hold_seconds(ctx)
        host = _bool(ctx, "host")
        view = HostView.from_env()
        view.require()
        sockets = {name: ctx.param(PREFIX + key) for name, key in SOCKET_PARAMS.items()}
        runtimes = ctx.param(PREFIX + "runtimes")
        configs = runtime_configs(
            runtimes,
            sockets,
            view,
            containerd_namespaces=ctx.param(PREFIX + "containerd-namespace"),
            protocol=ctx.param(PREFIX + "runtime-protocol"),
        )
        _selector(ctx)
        declared = _filter_map(ctx.spec)
        if declared is not None and not host:
            self._filter = _create_filter(declared)
            ctx.maps[FILTER_MAP] = self._filter.map
            if any(v.name == FILTER_SWITCH for v in ctx.spec.variables):
                ctx.constants[FILTER_SWITCH] = True
        self._starting = _Starting(
            configs,
            view,
            self._filter,
            engineless(runtimes),
            bool(self._told),
            _identify_seconds(ctx),
        )
        self._starting.start()

    def start(self, ctx: Context) -> None:
        """Wait for the containers that run already, and follow them from now on.

        :raises ContainerError: looking for containers could not be started.
        """
        from ig_py.containers.filter_map import ContainerSync
        from ig_py.containers.target_sync import TargetSync
        from ig_py.containers.targets import HOST

        if self._starting is None or ctx.stream is None:
            return
        self._discovery = discovery = self._starting.result()
        listed = discovery.wait_listed(LIST_SECONDS)
        sync = ContainerSync(ctx.stream, self._filter, _selector(ctx), discovery.admission)
        if discovery.admission is not None:
            discovery.admission.serve(ctx.stream)
            discovery.admission.follow(sync)
        discovery.collection.subscribe(self, sync)
        host = _bool(ctx, "host")
        ctx.open_netns = lambda: _open_netns(discovery, _selector(ctx), host)
        if host:
            ctx.targets.add(HOST)
        discovery.collection.subscribe(ctx.targets, TargetSync(ctx.targets, _selector(ctx)))
        self._targets = ctx.targets
        if self._told:
            self._tell_containers(ctx, self._told, discovery, host)
        if _bool(ctx, "hold-containers"):
            from ig_py.containers.hold import hold

            self._hold = hold(discovery, ctx.targets.after, _hold_seconds(ctx))
        ctx.container_of = lambda mntns: _name(discovery.collection.by_mntns(mntns))
        selects = not host and not _selector(ctx).everything
        if selects:
            ctx.selects = _selected(discovery, _selector(ctx))
        asked = bool(discovery.clients) or not discovery.engineless
        if (selects or self._filter is not None) and asked and not discovery.connected:
            sockets = ", ".join(f"{c.name} at {c.socket_path}" for c in discovery.clients)
            why = "answers" if listed else "has answered yet"
            until = "new containers have only their ids for names"
            if discovery.admission is None:
                until = "nothing is traced"
            log.warning(
                "no container engine %s (%s): %s until one does; --host traces the whole host",
                why,
                sockets,
                until,
            )
        elif self._filter is not None and not listed:
            log.warning(
                "the container engine has not listed its containers within %.0f s: the events of"
                " those that run already may be missing until it has",
                LIST_SECONDS,
            )

    def _tell_containers(
        self, ctx: Context, samples: Samples, discovery: Discovery, host: bool
    ) -> None:
        self._producer = producer = _containers_source.Producer(ctx, samples, _selector(ctx))
        if host:
            mntns = discovery.view.namespace(1, "mnt") or 0
            producer.tell("CREATED", "", 0, mntns, "", "")
        discovery.collection.subscribe(producer, producer)

    def drained(self, ctx: Context) -> bool:
        """Give what waits for its container a last moment, then count it as lost."""
        if self._discovery is None or self._discovery.admission is None or ctx.stream is None:
            return False
        deadline = time.monotonic() + LAST_SECONDS
        while ctx.stream.waiting() and time.monotonic() < deadline:
            time.sleep(LAST_STEP)
        ctx.stream.end_waiting("keep" if self._filter is None else "lose")
        return True

    def stop(self, ctx: Context) -> None:
        from ig_py.containers.sources import account, shortages

        if self._starting is not None:
            self._discovery = self._starting.settled()
            self._starting = None
        if self._hold is not None:
            self._hold.close()
            log.debug("containers: %s", self._hold.account())
            self._hold = None
        if self._discovery is not None:
            # First, so that nobody speaks to a stream that is about to close.
            self._discovery.collection.unsubscribe(self)
            self._discovery.collection.unsubscribe(self._targets)
            self._discovery.collection.unsubscribe(self._producer)
            log.debug("containers: %s", account(self._discovery))
            if short := shortages(self._discovery):
                log.warning(
                    "containers may have been seen late, their first events not at all: %s",
                    short,
                )
            self._discovery.stop()
            self._discovery = None
        if self._filter is not None:
            self._filter.close()
            self._filter = None


class _Starting(threading.Thread):
    """Imports and starts the discovery; the kernel has the gadget to check meanwhile."""

    def __init__(
        self,
        configs: list[RuntimeConfig],
        view: HostView,
        filter_map: FilterMap | None,
        engineless: bool,
        oci_configs: bool,
        identify_seconds: float,
    ) -> None:
        super().__init__(name="ig-containers-start", daemon=True)
        self._configs = configs
        self._view = view
        self._filter = filter_map
        self._engineless = engineless
        self._oci_configs = oci_configs
        self._identify_seconds = identify_seconds
        self._discovery: Discovery | None = None
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            from ig_py.containers.discovery import Discovery

            discovery = Discovery(
                self._configs,
                self._view,
                engineless=self._engineless,
                oci_configs=self._oci_configs,
            )
            discovery.start()
            self._discovery = discovery
            self._admit_in_kernel(discovery)
        except BaseException as error:
            self._failure = error

    def _admit_in_kernel(self, discovery: Discovery) -> None:
        from ig_py._core import CoreError
        from ig_py.containers.admission import Admission

        admission = None
        try:
            admission = Admission(self._view, discovery, self._identify_seconds)
            admission.begin()
            if self._filter is not None:
                admission.open(self._filter.map)
        except (CoreError, KernelError) as error:
            if admission is not None:
                admission.close()
            log.warning(
                "new containers are found by their cgroup and their engine only, and may be"
                " found late: %s",
                error,
            )
            return
        discovery.admission = admission
        discovery.collection.subscribe(admission, admission.changed)

    def settled(self) -> Discovery | None:
        """The running discovery; None when it could not be started."""
        self.join()
        return self._discovery

    def result(self) -> Discovery:
        discovery = self.settled()
        if discovery is not None:
            return discovery
        if isinstance(self._failure, (OSError, RuntimeError)):
            reason = f"starting to look for containers: {self._failure}"
            raise ContainerError(reason) from self._failure
        assert self._failure is not None
        raise self._failure


def _name(container: Container | None) -> str:
    return (container.runtime.container_name or container.id) if container else ""


def _selected(discovery: Discovery, selector: Selector) -> Callable[[int], bool]:
    """Whether a mount namespace is a selected container's."""

    def selects(mntns: int) -> bool:
        container = discovery.collection.by_mntns(mntns)
        return container is not None and selector.matches(container)

    return selects


def _open_netns(discovery: Discovery, selector: Selector, host: bool) -> list[int]:
    """Of the containers selected, with *host* the host's too; each namespace once."""
    from ig_py.host.proc import open_netns

    found = open_netns(discovery.view) if host else []
    seen = {os.fstat(fd).st_ino for fd in found}
    return found + discovery.collection.open_netns(
        lambda c: c.netns not in seen and selector.matches(c)
    )


def _filter_map(spec: GadgetSpec) -> MapSpec | None:
    return next((m for m in spec.maps if m.name == FILTER_MAP), None)


def _needs_containers(spec: GadgetSpec) -> bool:
    """True for programs that attach to each container by itself."""
    return any(needs_containers(p.section) for p in spec.programs)


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
    k8s = _group(ds, "k8s", Flag.HIDDEN)
    for name, kind, order, given in _K8S:
        filled.append(_leaf(ds, k8s, name, kind, order, given, Flag.HIDDEN, _K8S_TAG))
    owner = _group(ds, "owner", Flag.HIDDEN, parent=k8s)
    for name in _OWNER:
        filled.append(_leaf(ds, owner, name, Kind.STRING, 0, None, Flag.HIDDEN, _K8S_TAG))
    runtime = _group(ds, "runtime", Flag(0))
    for name, kind, order, given in _RUNTIME:
        flags = Flag(0) if name == "containerName" else Flag.HIDDEN
        filled.append(_leaf(ds, runtime, name, kind, order, given, flags))
    ctx.add_step(
        ds.name,
        STEP_PRIORITY,
        op="container",
        mntns=mntns.index if mntns else None,
        netns=netns.index if netns else None,
        fields={f.full_name: f.index for f in filled},
    )
    return True


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


def _create_filter(declared: MapSpec) -> FilterMap:
    from ig_py._core import CoreError
    from ig_py.containers.filter_map import ENTRIES, FilterMap

    try:
        return FilterMap.create(max(declared.max_entries, ENTRIES))
    except CoreError as error:
        raise KernelError(f"creating the container filter map: {error.message}") from error


def _bool(ctx: Context, key: str) -> bool:
    value = ctx.param(PREFIX + key, "false").lower()
    if value not in ("true", "false", ""):
        raise UsageError(f"--{key}={value!a}: neither true nor false")
    return value == "true"


def _identify_seconds(ctx: Context) -> float:
    from ig_py.containers.admission import DECIDE_SECONDS

    return _seconds(ctx, "identify-timeout", DECIDE_SECONDS, MAX_IDENTIFY_SECONDS)


def _hold_seconds(ctx: Context) -> float:
    from ig_py.containers.hold import MAX_SECONDS

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


def _refuse_unsupported(ctx: Context) -> None:
    if _bool(ctx, "enrich-with-k8s-apiserver"):
        raise ContainerError(
            "--enrich-with-k8s-apiserver: this version does not ask Kubernetes",
            remedy="leave the flag out",
        )
