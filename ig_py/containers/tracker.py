"""The containers of this host, for one command, from its start to its end.

``run``, ``doctor`` and ``list-containers`` each have one :class:`ContainerTracker`, and start
discovery with it. A gadget's run starts it while its programs are loaded, together with the
kernel's scout (docs/discovery.md). The run then connects its event stream and its attachments, and
holds executions of container runtimes if the user asks for that.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ig_py.containers.collection import ContainerCollection, Subscriber
from ig_py.containers.engines.config import SOCKET_PARAMS, engine_configs, wants_unmanaged
from ig_py.containers.selector import Selector
from ig_py.errors import ContainerError, KernelError
from ig_py.host.proc import HostView, open_netns
from ig_py.records import dataclass, field

if TYPE_CHECKING:
    from ig_py._core import Map, Stream
    from ig_py.containers.admission import Admission
    from ig_py.containers.contradictions import Contradiction
    from ig_py.containers.discovery import Discovery
    from ig_py.containers.ended_rows import EndedRows
    from ig_py.containers.engines.config import EngineConfig
    from ig_py.containers.exec_hold import Barrier, RuntimeExecHold
    from ig_py.containers.filter_map import FilterMap
    from ig_py.containers.model import Container
    from ig_py.containers.targets import Awaited, Targets

log = logging.getLogger(__name__)

ENGINE_PARAMS = (
    "runtimes",
    *SOCKET_PARAMS.values(),
    "containerd-namespace",
    "runtime-protocol",
)
"""Keys of the parameters that say which engines to ask, and how."""
LIST_SECONDS = 10.0
"""How long a run waits for the engines to list the containers that run already. An engine that is
absent or closes the connection is known at once; only a slow answer takes this long."""
LAST_SECONDS = 1.0
"""How long the end of a run waits at most for the containers of events to be identified."""
LAST_STEP = 0.01


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """Which containers to find, and which of these are selected.

    ``unmanaged``: also containers that no engine knows. ``oci_configs``: keep the config.json of
    each container (about 10 kB), and announce containers that a runtime begins to make. ``host``:
    the whole host is traced, so no event is filtered by its container.
    """

    engines: tuple[EngineConfig, ...] = ()
    unmanaged: bool = False
    oci_configs: bool = False
    selector: Selector = field(default_factory=Selector)
    host: bool = False

    @classmethod
    def from_params(
        cls,
        param: Callable[[str], str],
        view: HostView,
        selector: Selector | None = None,
        *,
        oci_configs: bool,
        host: bool = False,
    ) -> TrackerSettings:
        """*param*: a key of :data:`ENGINE_PARAMS` → its value as text.

        Raises:
            UsageError: A runtime or protocol does not exist.
            ContainerError: The socket of an engine that the user named does not exist, or the
                host's /proc cannot be seen.
        """
        view.require()
        runtimes = param("runtimes")
        engines = engine_configs(
            runtimes,
            {name: param(key) for name, key in SOCKET_PARAMS.items()},
            view,
            containerd_namespaces=param("containerd-namespace"),
            protocol=param("runtime-protocol"),
        )
        return cls(
            tuple(engines), wants_unmanaged(runtimes), oci_configs, selector or Selector(), host
        )


class ContainerTracker:
    """Use once: start, then stop. Methods are called in the command's thread; subscribers of
    ``collection`` are called in the threads that find containers."""

    def __init__(self, settings: TrackerSettings, view: HostView) -> None:
        self.settings = settings
        self.view = view
        self.collection = ContainerCollection()
        self._discovery: Discovery | None = None
        self._admission: Admission | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._filter: FilterMap | None = None
        self._hold: RuntimeExecHold | None = None
        self._keys: list[object] = []
        self._listed = False
        self._contradicted = 0

    # The life of a tracker.

    def start(self) -> None:
        """Begin to look for containers, without the kernel's scout; returns at once."""
        from ig_py.containers.discovery import Discovery

        discovery = Discovery(
            self.settings.engines,
            self.view,
            self.collection,
            unmanaged=self.settings.unmanaged,
            oci_configs=self.settings.oci_configs,
        )
        discovery.contradictions.observe(self._contradiction)
        try:
            discovery.start()
        except BaseException:
            discovery.stop()
            raise
        self._discovery = discovery

    def start_for_gadget(self, identify_seconds: float) -> None:
        """Begin to look for containers, and to admit new ones in the kernel; returns at once.

        A thread does both: modules are imported and the scout is loaded while the kernel checks
        the gadget's programs. *identify_seconds*: how long events wait for their container.
        """

        def bring_up() -> None:
            try:
                self.start()
                self._admit_in_kernel(identify_seconds)
            except BaseException as error:
                self._failure = error

        self._thread = threading.Thread(target=bring_up, name="ig-containers-start", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End every thread and release everything, also after a start that failed."""
        self._join()
        if self._hold is not None:
            self._hold.close()
            log.debug("containers: %s", self._hold.account())
            self._hold = None
        # Subscribers may speak to a stream that is closed next.
        for key in self._keys:
            self.collection.unsubscribe(key)
        self._keys.clear()
        if self._discovery is not None:
            self._say_account(self._discovery)
            if self._admission is not None:
                self._admission.close()
                self._admission = None
            self._discovery.stop()
            self._discovery = None
        if self._filter is not None:
            self._filter.close()
            self._filter = None

    @property
    def discovery(self) -> Discovery:
        """The discovery, once it has started.

        Raises:
            ContainerError: It could not be started.
        """
        self._join()
        if self._discovery is not None:
            return self._discovery
        failure = self._failure or RuntimeError("it was not started")
        if isinstance(failure, (OSError, RuntimeError)):
            raise ContainerError(f"starting to look for containers: {failure}") from failure
        raise failure

    def wait_listed(self, seconds: float) -> bool:
        """Wait until every engine's running containers are known, or no engine answers; False
        when *seconds* were not enough for one of them.

        Raises:
            ContainerError: Looking for containers could not be started.
        """
        self._listed = self.discovery.wait_listed(seconds)
        return self._listed

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell *subscriber* of every container, and of every change until :meth:`stop`."""
        self._keys.append(subscriber)
        self.collection.subscribe(subscriber, subscriber)

    # What is known of containers.

    @property
    def selects_some(self) -> bool:
        """Whether the user chose some containers, and not the whole host."""
        return not self.settings.host and not self.settings.selector.everything

    def containers(self) -> list[Container]:
        """The selected containers that run now, oldest first."""
        selected = self.settings.selector.matches
        return [c for c in self.collection.containers() if selected(c)]

    def selects(self, mntns: int) -> bool:
        """Whether what is read of a mount namespace is to be shown: that of a selected container,
        and anything when the user chose none."""
        if not self.selects_some:
            return True
        container = self.collection.by_mntns(mntns)
        return container is not None and self.settings.selector.matches(container)

    def name_of(self, mntns: int) -> str:
        """Name of the container of a mount namespace, else its id; "" when there is none."""
        container = self.collection.by_mntns(mntns)
        return (container.runtime.container_name or container.id) if container else ""

    def open_netns(self) -> list[int]:
        """The network namespaces of the selected containers, with ``host`` the host's too, each
        one once: descriptors that the caller closes."""
        selector = self.settings.selector
        found = open_netns(self.view) if self.settings.host else []
        seen = {os.fstat(fd).st_ino for fd in found}
        return found + self.collection.open_netns(
            lambda c: c.netns not in seen and selector.matches(c)
        )

    # A gadget's run.

    def create_filter(self, max_entries: int) -> Map:
        """The kernel map of the mount namespaces whose events pass; before
        :meth:`start_for_gadget`. *max_entries*: as the gadget declares it.

        Raises:
            KernelError: The kernel makes no map.
        """
        from ig_py.containers.filter_map import ENTRIES, FilterMap

        self._filter = FilterMap.create(max(max_entries, ENTRIES))
        return self._filter.map

    def follow(self, stream: Stream, ended: EndedRows | None = None) -> None:
        """Wait for the containers that run already; give *stream* the names of these and of
        later ones, and the decisions about events that wait for their container; and tell *ended*
        of namespaces that end.

        Raises:
            ContainerError: Looking for containers could not be started.
        """
        from ig_py.containers.stream_sync import StreamSync

        self.wait_listed(LIST_SECONDS)
        admission = self._admission
        sync = StreamSync(stream, self._filter, self.settings.selector, admission, ended)
        if admission is not None:
            admission.serve(stream, selective=self._filter is not None)
            admission.subscribe(sync)
        self.subscribe(sync)

    def keep(self, targets: Targets) -> None:
        """Keep *targets* to the selected containers, and with ``host`` the host."""
        from ig_py.containers.target_sync import TargetSync
        from ig_py.containers.targets import HOST

        if self.settings.host:
            targets.add(HOST)
        self.subscribe(TargetSync(targets, self.settings.selector))

    def hold_runtimes(self, attached: Barrier, seconds: float) -> None:
        """Hold runtimes that start a container until it is known and attached to.

        *attached*: the barrier of what is attached. *seconds*: nothing is held longer.

        Raises:
            ContainerError: The kernel does not allow it, or there is no runtime.
        """
        from ig_py.containers.exec_hold import RuntimeExecHold

        admission, reactor, ready = self._admission, self.discovery.reactor, attached
        if admission is not None:
            decided, reactor = admission.when_decided, admission.reactor

            def known_and_attached(awaited: Awaited, done: Callable[[], None]) -> None:
                decided(awaited, lambda: attached(awaited, done))

            ready = known_and_attached
        self._hold = RuntimeExecHold(self.view, reactor, ready, seconds)

    def warn_of_engines(self) -> None:
        """Say which containers will be missing as long as no engine answers."""
        engines = self.discovery.engines
        engines_matter = bool(engines.clients) or not self.settings.unmanaged
        filtered = self.selects_some or self._filter is not None
        if filtered and engines_matter and not engines.answers():
            log.warning(
                "no container engine %s (%s): %s until one does; --host traces the whole host",
                "answers" if self._listed else "has answered yet",
                ", ".join(f"{c.name} at {c.socket_path}" for c in engines.clients)
                or "none is asked",
                "nothing is traced"
                if self._admission is None
                else "new containers have only their ids for names",
            )
        elif self._filter is not None and not self._listed:
            log.warning(
                "the container engine has not listed its containers within %.0f s: the events of"
                " those that run already may be missing until it has",
                LIST_SECONDS,
            )

    def nothing_selected(self) -> str | None:
        """What to say when the containers that ran at the start are known and none of them is
        selected; None when one is, when all are wanted, or when no engine answers."""
        from ig_py.containers.selection_notice import nothing_selected

        discovery = self._discovery
        if not self.selects_some or discovery is None or not discovery.listed:
            return None
        if not discovery.engines.answers() and not self.settings.unmanaged:
            return None
        return nothing_selected(self.settings.selector, self.collection.containers())

    def drain(self, stream: Stream) -> bool:
        """After the programs are detached: give events that wait for their container a last
        moment, then count them as lost. True when *stream* may have more to read now."""
        if self._admission is None:
            return False
        deadline = time.monotonic() + LAST_SECONDS
        while stream.waiting() and time.monotonic() < deadline:
            time.sleep(LAST_STEP)
        stream.end_waiting("keep" if self._filter is None else "lose")
        return True

    def unseen(self) -> dict[str, int]:
        """Containers that may have events which are not counted as lost, by reason (``report``)."""
        from ig_py.containers.report import unseen

        if self._filter is None:
            return {}
        unread = self.view.failures.count
        if self._admission is None:
            return unseen({}, 0, 0, unread)
        late = self._admission.totals.late
        return unseen(self._admission.counts(), late, self._contradicted, unread)

    def _contradiction(
        self, kind: Contradiction, stays: Container | None, ignored: Container
    ) -> None:
        """A subscriber of the discovery's contradictions."""
        matches = self.settings.selector.matches
        # The events of one namespace are shown all the same when what stays is selected.
        shown = kind.name == "NAMESPACE" and stays is not None and matches(stays)
        self._contradicted += matches(ignored) and not shown

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _admit_in_kernel(self, identify_seconds: float) -> None:
        from ig_py._core import CoreError
        from ig_py.containers.admission import Admission

        discovery, admission = self._discovery, None
        assert discovery is not None
        try:
            admission = Admission(self.view, discovery, identify_seconds)
            admission.begin()
            if self._filter is not None:
                admission.open(self._filter.map)
        except (CoreError, KernelError, ImportError, OSError) as error:
            if admission is not None:
                admission.close()
            log.warning(
                "new containers are found by their cgroup and their engine only, and may be"
                " found late: %s",
                error,
            )
            return
        self._admission = admission
        discovery.unmanaged.told_by_kernel()
        admission.wanted = self.settings.selector.matches
        discovery.on_described(admission.described)
        self.collection.subscribe(admission, admission.changed)

    def _say_account(self, discovery: Discovery) -> None:
        from ig_py.containers.report import account, shortages

        log.debug("containers: %s", account(discovery))
        if short := shortages(self.unseen()):
            log.warning(
                "containers may have been seen late, their first events not at all: %s", short
            )
