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
from ig_py.containers.contradictions import Contradiction, Contradictions
from ig_py.containers.descriptions import MAX_OF_USER, Descriptions, merged
from ig_py.containers.engines.clients import EngineClients
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.engines.state_roots import of_process
from ig_py.containers.engines.unmanaged import UnmanagedContainers
from ig_py.containers.identify import Found
from ig_py.containers.init_facts import with_process
from ig_py.containers.learnt_roots import LearntRoots
from ig_py.containers.live import LiveContainers
from ig_py.containers.model import Container
from ig_py.containers.oci_bundle import BundleReader
from ig_py.containers.runtime_executions import RuntimeExecutions
from ig_py.containers.sources import DiscoverySource
from ig_py.containers.speakers import KERNEL, ROOT_ENGINE, Claim, Rank, Speaker, claim
from ig_py.host.descriptors import raise_limit, room_for_users
from ig_py.host.files import HostReadError
from ig_py.host.proc import HostView, Process, ProcessGone
from ig_py.host.reactor import Reactor
from ig_py.records import replace

log = logging.getLogger(__name__)

ADMIT_AGAIN_SECONDS = (0.2, 0.8, 3.2)
"""Between attempts to take in a container while the host cannot be read."""


class Discovery:
    """Use once: start, then stop. Implements what the sources report to (``ClaimSink``,
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
        self.contradictions = Contradictions()
        self._bundles = BundleReader(self.view)
        self._live = LiveContainers(
            self.view, self.reactor, self.collection, self._lock, self._ended, self.contradictions
        )
        self.engines = EngineClients(configs, self)
        self.cgroups = CgroupWatch(
            self.view,
            self.reactor,
            lambda name, pid, speaker, born: self.init_found(
                name, pid, DiscoverySource.CGROUPS, claim(speaker, Rank.KERNEL), born
            ),
        )
        self.unmanaged = UnmanagedContainers(
            self.view,
            self.reactor,
            self.engines,
            self,
            self._bundles,
            report=unmanaged,
            announce=oci_configs,
        )
        self._state_roots = LearntRoots(self.view, self.reactor, self.unmanaged.watch)
        self.executions = RuntimeExecutions(self.view, self.reactor, self._state_roots.executed)
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

    @property
    def listed(self) -> bool:
        """Whether :meth:`wait_listed` would not wait."""
        return self.engines.listed and self.unmanaged.scanned

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

    # ClaimSink: what engines say.

    def describe(self, container: Container, by: Claim = ROOT_ENGINE) -> None:
        self._describe(container, by)

    def ignore(self, container_id: str, by: Claim = ROOT_ENGINE) -> None:
        self._descriptions.ignore(container_id, by.speaker)

    def started(self, container: Container, pid: int, by: Claim = ROOT_ENGINE) -> None:
        self.describe(container, by)
        self._admit(container, pid, DiscoverySource.ENGINE, by)

    def renamed(self, container_id: str, name: str, by: Claim = ROOT_ENGINE) -> None:
        description = self._descriptions.get(container_id, by.speaker)
        if description and name:
            runtime = replace(description.runtime, container_name=name)
            self.describe(replace(description, runtime=runtime), by)

    def died(self, container_id: str, by: Claim = ROOT_ENGINE) -> None:
        self._live.died(container_id, by)

    def forget(self, container_id: str, by: Claim = ROOT_ENGINE) -> None:
        self.died(container_id, by)
        description = self._descriptions.deleted(container_id, by.speaker)
        if description is not None:
            # Events of a container that lived shortly may still wait for its description.
            self.reactor.later(
                GRACE_SECONDS, lambda: self._drop(container_id, description, by.speaker)
            )

    def find_init(self, container_id: str) -> int | None:
        try:
            return self.cgroups.init_pid(container_id)
        except HostReadError as error:
            self.view.failures.add(error)
            return None

    def live(self, container_id: str, by: Claim = ROOT_ENGINE) -> bool:
        unmanaged = self._descriptions.is_unmanaged(container_id, by.speaker)
        return not unmanaged and self._runs(container_id, by)

    def owns(self, container_id: str, pid: int, asked: float) -> bool:
        try:
            if container_id in self.view.cgroups(pid).raw:
                return True
            return self.view.began_before(pid, asked)
        except HostReadError as error:
            # The engine's client begins anew, and asks again.
            self.view.failures.add(error)
            raise

    def serving(self, engine: str, pid: int, by: Claim) -> None:
        if by.speaker.is_root:
            for root, runtime in of_process(self.view, engine, pid):
                self.state_root(root, runtime, pid, by)

    def state_root(self, root: str, runtime: str, pid: int, by: Claim) -> None:
        if by.speaker.is_root:
            self.reactor.soon(lambda: self._state_roots.told(root, runtime, pid))

    # UnmanagedSink: what processes and the state of runtimes tell. The reactor's thread.

    def init_found(
        self, container_id: str, pid: int, source: DiscoverySource, by: Claim, born: int = 0
    ) -> None:
        if description := self._descriptions.init_found(container_id, (pid, source, by, born)):
            self._admit(description, pid, source, by, born=born)

    def known(self, container_id: str, by: Claim) -> bool:
        return self.ignored(container_id, by) or self._runs(container_id, by)

    def found_unmanaged(
        self, container: Container, pid: int, source: DiscoverySource, by: Claim, born: int = 0
    ) -> None:
        admitted = self._admit(self._description(container, by), pid, source, by, born=born)
        if admitted and source is DiscoverySource.PROCESSES:
            engine, owner = container.runtime.name, by.speaker.user
            self.not_told_by_engine += self.engines.answers(engine, owner)

    def not_own(self, container: Container, by: Claim) -> None:
        self.contradictions.add(Contradiction.NOT_OWN, container, by)

    def announce(self, container: Container) -> None:
        self.collection.announce(container)

    # KnownContainers: what the admission of new mount namespaces asks. The scout's thread.

    def description(
        self, container_id: str, by: Claim = KERNEL, owner: int | None = None
    ) -> Container | None:
        found = self._descriptions.get(container_id, by.speaker)
        if found is None and by.speaker.is_root and owner:
            return self._descriptions.get(container_id, Speaker(owner))
        return found

    def ignored(self, container_id: str, by: Claim = KERNEL) -> bool:
        return self._descriptions.ignored(container_id, by.speaker)

    def describe_by_files(self, found: Found, pid: int, owner: int | None) -> Container | None:
        return self.unmanaged.describe(found.container_id, found.runtime, pid, found.bundle, owner)

    def current(self, container_id: str, by: Claim | None = None) -> Container | None:
        if by is not None and self._live.outranked(container_id, by):
            return None
        return self._live.current(container_id)

    def contradicts(self, container: Container, by: Claim) -> bool:
        if by.speaker.is_root:
            return False
        known = self._descriptions.get(container.id)
        if known is not None:
            self.contradictions.add(Contradiction.ID, container, by, known)
        return known is not None

    def by_mntns(self, mntns: int) -> Container | None:
        container = self.collection.by_mntns(mntns)
        return self.current(container.id) if container else None

    def holder(self, mntns: int) -> Container | None:
        return self.collection.holder(mntns)

    def admit(
        self, container: Container, pid: int, mntns: int, by: Claim = KERNEL, *, named: bool
    ) -> None:
        container = self._description(container, by)
        self._admit(container, pid, DiscoverySource.KERNEL, by, mntns, named=named)

    def admit_ended(
        self, container: Container, generation: int, by: Claim = KERNEL, *, named: bool
    ) -> bool:
        return self._live.add_ended(container, generation, by, named=named)

    # Any thread.

    def _description(self, container: Container, by: Claim) -> Container:
        """What an engine said of *container*, else itself, as a description from now on."""
        return self._describe(container, by, unmanaged=True)

    def _describe(self, container: Container, by: Claim, *, unmanaged: bool = False) -> Container:
        """Keep a description; the one that counts. *unmanaged*: no engine said it, so that it
        never replaces what one has said."""
        with self._lock:
            described = self._descriptions.get(container.id, by.speaker)
            if unmanaged and described is not None:
                return described
            if not self._descriptions.put(container, by.speaker):
                return container
            if unmanaged:
                self._descriptions.set_unmanaged(container.id, by.speaker)
            init = self._descriptions.take_init(container.id, by.speaker)
            known = self.collection.get(container.id)
            if known and self._live.agrees(container.id, by):
                self.collection.update(merged(known, container))
                return container
        if init:
            pid, source, claimed, born = init
            self._admit(container, pid, source, claimed, born=born)
        for callback in self._on_described:
            callback(container.id)
        return container

    def _runs(self, container_id: str, by: Claim) -> bool:
        """Whether it is in the collection by a claim as strong as *by*, and its init runs."""
        return self._live.runs(container_id) and not self._live.outranked(container_id, by)

    def _admit(
        self,
        container: Container,
        pid: int,
        source: DiscoverySource,
        by: Claim,
        mntns: int = 0,
        *,
        named: bool = True,
        born: int = 0,
        tried: int = 0,
    ) -> bool:
        """Take in a container with *pid* as its init; False when it is in already, its init has
        ended, or *by* does not count for it. *mntns*: its mount namespace as the kernel told; 0:
        not told. A process in another one is not taken in. *born*: when init began; 0: not known,
        it is the process that has the number now. *tried*: attempts that failed since the host
        could not be read."""
        try:
            # An attempt that is repeated is about the same process.
            born = born or self.view.born(pid)
            return self._admit_now(container, pid, source, by, mntns, named=named, born=born)
        except ProcessGone as error:
            log.debug("container %.12s: %s", container.id, error)
        except HostReadError as error:
            self.view.failures.add(error)
            if tried < len(ADMIT_AGAIN_SECONDS):

                def again() -> None:
                    self._admit(
                        container, pid, source, by, mntns, named=named, born=born, tried=tried + 1
                    )

                self.reactor.later(ADMIT_AGAIN_SECONDS[tried], again)
            else:
                log.warning("container %.12s is not traced: %s", container.id, error)
        return False

    def _admit_now(
        self,
        container: Container,
        pid: int,
        source: DiscoverySource,
        by: Claim,
        mntns: int,
        *,
        named: bool,
        born: int,
    ) -> bool:
        """As :meth:`_admit`.

        Raises:
            ProcessGone: The init has ended.
            HostReadError: The host cannot be read.
        """
        process = self.view.open(pid, born)
        try:
            complete = self._complete(container, process, by, mntns)
        except BaseException:
            process.close()
            raise
        if complete is None:
            process.close()
            return False
        if not complete.mntns:
            self._say_unreadable(complete)
        with self._lock:
            admitted = self._live.add(complete, process, by, named=named)
            self.found_first[source] += admitted
        return admitted

    def _complete(
        self, container: Container, process: Process, by: Claim, mntns: int
    ) -> Container | None:
        """*container* with the facts of its init; None when *by* does not count for *process*."""
        if mntns and process.mntns and process.mntns != mntns:
            # The number is another process's by now, or the process left that namespace, whose
            # events are then named when the kernel tells of the next one.
            log.debug(
                "container %.12s: process %d is not in its namespace", container.id, process.pid
            )
            return None
        if not self._counts(container, process, by):
            return None
        return with_process(
            self.view,
            container,
            process,
            by.speaker,
            mntns,
            self._bundles if self._oci_configs else None,
        )

    def _counts(self, container: Container, process: Process, by: Claim) -> bool:
        """Whether the statement *by* counts for *process*."""
        if by.speaker.is_root:
            return True
        if not by.speaker.may_speak_of(process.owner) or process.mntns == self.view.host_mntns:
            self.contradictions.add(Contradiction.NOT_OWN, container, by)
            return False
        full = self._live.of_user(by.speaker) >= MAX_OF_USER
        if full or self._live.of_users() >= room_for_users():
            self.contradictions.add(Contradiction.TOO_MANY, container, by)
            return False
        return not self.contradicts(container, by)

    def _say_unreadable(self, container: Container) -> None:
        if self._unreadable_said:
            return
        self._unreadable_said = True
        log.warning(
            "the namespaces of container %a may not be read, nor perhaps those of others: they are"
            " traced only if they start while this runs; CAP_SYS_PTRACE allows it",
            container.runtime.container_name or container.id[:12],
        )

    def _ended(self, container_id: str, speaker: Speaker) -> None:
        """With the lock held."""
        if self._descriptions.is_unmanaged(container_id, speaker):
            # No engine will say that it was deleted.
            self.reactor.later(GRACE_SECONDS, lambda: self._drop_unmanaged(container_id, speaker))

    def _drop(self, container_id: str, description: Container, speaker: Speaker) -> None:
        with self._lock:
            current = self._descriptions.get(container_id, speaker)
            if current is description and container_id not in self._live:
                self._descriptions.remove(container_id, speaker)

    def _drop_unmanaged(self, container_id: str, speaker: Speaker) -> None:
        with self._lock:
            unmanaged = self._descriptions.is_unmanaged(container_id, speaker)
            if unmanaged and container_id not in self._live:
                self._descriptions.remove(container_id, speaker)
