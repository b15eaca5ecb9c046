"""Discovery: every source of containers, feeding one collection.

A container enters the collection as soon as two facts meet, whichever comes first: what it is (an
engine's create event or listing, or its own files) and which process is its init (the kernel's
scout, the watched control groups, the runtime's state, or the engine's start event). It leaves
when its init ends (``live``).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from ig_py.containers.cgroup_watch import CgroupWatch
from ig_py.containers.collection import GRACE_SECONDS, ContainerCollection
from ig_py.containers.descriptions import Descriptions, merged
from ig_py.containers.engines.clients import EngineClients
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.engines.unmanaged import UnmanagedContainers
from ig_py.containers.init_facts import with_process
from ig_py.containers.live import LiveContainers
from ig_py.containers.model import Container
from ig_py.containers.runtime_executions import RuntimeExecutions
from ig_py.containers.sources import DiscoverySource
from ig_py.errors import ContainerError
from ig_py.host.descriptors import raise_limit
from ig_py.host.proc import HostView, ProcessGone
from ig_py.host.reactor import Reactor
from ig_py.records import replace

log = logging.getLogger(__name__)


class Discovery:
    """Use once: start, then stop. Implements what the sources report to (``EngineSink``,
    ``UnmanagedSink``) and what the admission of new mount namespaces asks (``KnownContainers``).
    """

    def __init__(
        self,
        configs: Iterable[EngineConfig],
        view: HostView | None = None,
        collection: ContainerCollection | None = None,
        *,
        unmanaged: bool = False,
        oci_configs: bool = False,
    ) -> None:
        """*unmanaged*: report containers that no engine knows as well.
        *oci_configs*: keep the config.json of each container (about 10 kB), and announce
        containers that a runtime begins to create."""
        self._oci_configs = oci_configs
        self.reports_unmanaged = unmanaged
        self.view = view or HostView.from_env()
        self.collection = ContainerCollection() if collection is None else collection
        self.reactor = Reactor("ig-containers")
        self._lock = threading.RLock()
        self._descriptions = Descriptions(self._lock)
        self._live = LiveContainers(
            self.view, self.reactor, self.collection, self._lock, self._ended
        )
        self.engines = EngineClients(configs, self)
        self.cgroups = CgroupWatch(
            self.view,
            self.reactor,
            lambda name, pid: self.init_found(name, pid, DiscoverySource.CGROUPS),
        )
        self.unmanaged = UnmanagedContainers(
            self.view, self.reactor, self.engines, self, report=unmanaged, announce=oci_configs
        )
        self.executions = RuntimeExecutions(self.view, self.reactor)
        self._on_described: list[Callable[[str], None]] = []
        self._unreadable_said = False
        self.found_first: dict[DiscoverySource, int] = {
            s: 0 for s in DiscoverySource if s is not DiscoverySource.RUNTIMES
        }
        """Containers by the source that told first which process is their init."""
        self.not_told_by_engine = 0
        """Containers that the engine which manages them has not told of, though it answers."""

    def start(self) -> None:
        """Begin; returns at once. Containers appear in ``collection``."""
        raise_limit()
        self.cgroups.start()
        self.unmanaged.start()
        self.executions.start()
        self.collection.subscribe(self.executions, self.executions.changed)
        self.reactor.start()
        self._live.start()
        self.engines.start()

    def wait_listed(self, seconds: float) -> bool:
        """Wait until every engine's running containers are in, or no engine answers; False when
        *seconds* were not enough for one of them."""
        deadline = time.monotonic() + seconds
        listed = self.engines.wait_listed(seconds)
        return self.unmanaged.wait_scanned(max(0.0, deadline - time.monotonic())) and listed

    def stop(self) -> None:
        """End all threads (in about a second at most) and close every descriptor."""
        self.engines.stop()
        self.reactor.stop()
        self.cgroups.stop()
        self.unmanaged.stop()
        self.collection.unsubscribe(self.executions)
        self.executions.stop()
        self._live.close()
        self.collection.close()

    def on_described(self, callback: Callable[[str], None]) -> None:
        """Call *callback*, from any thread, with the id of each container that is described and
        not in the collection yet."""
        self._on_described.append(callback)

    # EngineSink: what engines say.

    def describe(self, container: Container) -> None:
        with self._lock:
            if not self._descriptions.put(container):
                return
            init = self._descriptions.take_init(container.id)
            known = self.collection.get(container.id)
            if known:
                self.collection.update(merged(known, container))
        if known:
            return
        if init:
            self._admit(container, *init)
        for callback in self._on_described:
            callback(container.id)

    def ignore(self, container_id: str) -> None:
        self._descriptions.ignore(container_id)

    def started(self, container: Container, pid: int) -> None:
        self.describe(container)
        self._admit(container, pid, DiscoverySource.ENGINE)

    def renamed(self, container_id: str, name: str) -> None:
        description = self._descriptions.get(container_id)
        if description and name:
            runtime = replace(description.runtime, container_name=name)
            self.describe(replace(description, runtime=runtime))

    def died(self, container_id: str) -> None:
        self._live.died(container_id)

    def forget(self, container_id: str) -> None:
        self.died(container_id)
        description = self._descriptions.deleted(container_id)
        if description is not None:
            # Events of a container that lived shortly may still wait for its description.
            self.reactor.later(GRACE_SECONDS, lambda: self._drop(container_id, description))

    def find_init(self, container_id: str) -> int | None:
        return self.cgroups.init_pid(container_id)

    def live(self, container_id: str) -> bool:
        return self._live.runs(container_id)

    def owns(self, container_id: str, pid: int) -> bool:
        return container_id in self.view.cgroups(pid).raw

    # UnmanagedSink: what processes and the state of runtimes tell. The reactor's thread.

    def init_found(self, container_id: str, pid: int, source: DiscoverySource) -> None:
        if description := self._descriptions.init_found(container_id, pid, source):
            self._admit(description, pid, source)

    def known(self, container_id: str) -> bool:
        return self._descriptions.ignored(container_id) or self.live(container_id)

    def found_unmanaged(self, container: Container, pid: int, source: DiscoverySource) -> None:
        admitted = self._admit(self._description(container), pid, source)
        if admitted and source is DiscoverySource.PROCESSES:
            self.not_told_by_engine += self.engines.answers(container.runtime.name)

    def announce(self, container: Container) -> None:
        self.collection.announce(container)

    # KnownContainers: what the admission of new mount namespaces asks. The scout's thread.

    def description(self, container_id: str) -> Container | None:
        return self._descriptions.get(container_id)

    def ignored(self, container_id: str) -> bool:
        return self._descriptions.ignored(container_id)

    def describe_by_files(
        self, container_id: str, runtime: str, pid: int, bundle: str
    ) -> Container | None:
        return self.unmanaged.describe(container_id, runtime, pid, bundle)

    def current(self, container_id: str) -> Container | None:
        return self._live.current(container_id)

    def by_mntns(self, mntns: int) -> Container | None:
        container = self.collection.by_mntns(mntns)
        return self.current(container.id) if container else None

    def admit(self, container: Container, pid: int, mntns: int, *, named: bool) -> None:
        container = self._description(container)
        self._admit(container, pid, DiscoverySource.KERNEL, mntns, named=named)

    def admit_ended(self, container: Container, generation: int, *, named: bool) -> bool:
        return self._live.add_ended(container, generation, named=named)

    # Any thread.

    def _description(self, container: Container) -> Container:
        """What an engine said of *container*; else *container*, which is its description then."""
        with self._lock:
            description = self._descriptions.get(container.id)
        if description is not None:
            return description
        self.describe(container)
        self._descriptions.set_unmanaged(container.id)
        return container

    def _admit(
        self,
        container: Container,
        pid: int,
        source: DiscoverySource,
        mntns: int = 0,
        *,
        named: bool = True,
    ) -> bool:
        """Take in a container with *pid* as its init; False when it is in already, or its init
        has ended. *mntns*: its mount namespace as the kernel told."""
        try:
            process = self.view.open(pid)
        except ProcessGone as error:
            log.debug("container %.12s: %s", container.id, error)
            return False
        except ContainerError as error:
            log.warning("container %.12s is not traced: %s", container.id, error)
            return False
        complete = with_process(self.view, container, process, mntns, oci_configs=self._oci_configs)
        if complete is None:
            process.close()
            return False
        if not complete.mntns:
            self._say_unreadable(complete)
        with self._lock:
            admitted = self._live.add(complete, process, named=named)
            self.found_first[source] += admitted
        return admitted

    def _say_unreadable(self, container: Container) -> None:
        if self._unreadable_said:
            return
        self._unreadable_said = True
        log.warning(
            "the namespaces of container %a may not be read, nor perhaps those of others: they are"
            " traced only if they start while this runs; CAP_SYS_PTRACE allows it",
            container.runtime.container_name or container.id[:12],
        )

    def _ended(self, container_id: str) -> None:
        """With the lock held."""
        if self._descriptions.is_unmanaged(container_id):
            # No engine will say that it was deleted.
            self.reactor.later(GRACE_SECONDS, lambda: self._drop_unmanaged(container_id))

    def _drop(self, container_id: str, description: Container) -> None:
        with self._lock:
            current = self._descriptions.get(container_id)
            if current is description and container_id not in self._live:
                self._descriptions.remove(container_id)

    def _drop_unmanaged(self, container_id: str) -> None:
        with self._lock:
            if self._descriptions.is_unmanaged(container_id) and container_id not in self._live:
                self._descriptions.remove(container_id)
