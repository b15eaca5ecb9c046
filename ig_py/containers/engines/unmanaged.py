"""Unmanaged containers, which no engine started; and a second source for those of engines.

Two sources: the state that runc and crun keep (``state_dirs``), and the processes of the host,
looked through every few seconds for inits of containers (``inits``). A container whose engine
answers is left to the engine for a moment. One that no engine describes is named by its id.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from ig_py.containers.conmon import conmon_above
from ig_py.containers.engines.clients import EngineClients
from ig_py.containers.engines.creation import Creation, creation_of
from ig_py.containers.inits import container_of_init, engine_of_cgroup
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.containers.oci_bundle import BundleReader, annotated, annotations_of
from ig_py.containers.runtime_state import State
from ig_py.containers.sources import DiscoverySource
from ig_py.containers.speakers import Claim, Rank, Speaker, claim
from ig_py.containers.state_dirs import StateDirs
from ig_py.host.files import HostReadError
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor
from ig_py.records import dataclass

POLL_SECONDS = 5.0
"""How often new processes are looked through; an init that is unknown twice is reported."""
SECOND_OPINION_SECONDS = 30.0
"""As :data:`POLL_SECONDS`, once the kernel tells of each new mount namespace."""
FIRST_LOOK = 0.02
"""How soon is looked again at the start, where an engine may just have listed its containers; the
pauses double up to :data:`FIRST_POLL`."""
FIRST_POLL = 0.3
"""How long engines have to describe first what runs at the start."""
ENGINE_SECONDS = 5.0
"""How long after the start a container whose engine is not known waits for engines that have
neither answered nor failed."""
MONITORED = ("runc", "crun")
"""Below whose roots engines with a monitor (conmon) have their containers: podman and CRI-O."""
WITHOUT_MONITOR = ("containerd", "docker")
MAX_CREATIONS = 4096
CREATION_SECONDS = 60.0
"""How long what was seen of a container's creation is kept: then it has been identified, or what
its processes and files tell is read."""


class UnmanagedSink(Protocol):
    """Where findings are reported to: the discovery."""

    def init_found(
        self, container_id: str, pid: int, source: DiscoverySource, by: Claim, born: int = 0
    ) -> None:
        """A container's init, for the engine that will describe the container. *born*: of the
        process that was looked at (``HostView.born``)."""

    def known(self, container_id: str, by: Claim) -> bool:
        """Whether it is in the collection by a claim as strong and its init runs, or it is to be
        ignored."""

    def ignore(self, container_id: str, by: Claim) -> None:
        """It is a pod's sandbox, which only holds the pod's namespaces."""

    def found_unmanaged(
        self, container: Container, pid: int, source: DiscoverySource, by: Claim, born: int = 0
    ) -> None:
        """A running container that no engine describes. If one has, that description counts.
        *born*: as above."""

    def not_own(self, container: Container, by: Claim) -> None:
        """A user says that a process of another user is the init of that container."""

    def announce(self, container: Container) -> None:
        """A container that a runtime begins to create."""


@dataclass(frozen=True, slots=True)
class _Unclaimed:
    """An init that is left to engines. *due*: none is expected to describe it later (seconds of
    the monotonic clock). *unlisted*: an engine had not listed its containers then, and will list it
    if it is one of them. *runtime*, *bundle*: "" where its state is not known."""

    container_id: str
    claim: Claim
    due: float
    unlisted: bool
    born: int
    runtime: str = ""
    bundle: str = ""


class UnmanagedContainers:
    """Works in the reactor's thread. *report*: report what no engine describes, too;
    *announce*: also containers that a runtime begins to create, with their bundles."""

    def __init__(
        self,
        view: HostView,
        reactor: Reactor,
        engines: EngineClients,
        sink: UnmanagedSink,
        bundles: BundleReader,
        *,
        report: bool,
        announce: bool,
    ) -> None:
        self._view = view
        self._reactor = reactor
        self._engines = engines
        self._sink = sink
        self._bundles = bundles
        self._reports = report
        self._announces = announce
        self._dirs = StateDirs(view, reactor, self)
        self._scanned = threading.Event()
        self._processes: set[int] = set()
        self._second_opinion = False
        self._next_look = 0.0
        self._pause = FIRST_LOOK
        self._last_pid = 0
        """The last that was given before the last look; 0: that is not known, or a process of that
        look could not be read."""
        self._unclaimed: dict[int, _Unclaimed] = {}
        self._began = 0.0
        self._undecided = False
        """Whether the last look left an init that is reported soon, if no engine describes it."""
        self._creations: dict[str, Creation] = {}
        self.found_by_processes_only = 0
        """Containers that only the look through all processes found."""

    def status(self) -> tuple[bool, str]:
        """Whether the state of runtimes is watched; where, or why not."""
        return self._dirs.status()

    def watch(self, root: str, runtime: str, begins: str, rest: tuple[str, ...]) -> None:
        """Watch one more directory of root's with the state of containers (``StateDirs``)."""
        self._dirs.watch(root, runtime, begins, rest)

    def start(self) -> None:
        self._began = time.monotonic()
        self._dirs.start(self._begin)

    def wait_scanned(self, seconds: float) -> bool:
        """Wait until what runs at the start is reported; False when *seconds* were not enough."""
        return self._scanned.wait(seconds)

    @property
    def scanned(self) -> bool:
        """Whether what runs at the start is reported."""
        return self._scanned.is_set()

    def stop(self) -> None:
        """After the reactor stopped."""
        self._dirs.stop()

    def describe(
        self, container_id: str, runtime: str, pid: int, bundle: str, owner: int | None
    ) -> Container | None:
        """A container by what its processes and files tell; None for a pod's sandbox.

        *runtime*, *bundle*: "" where that is not known yet. *owner*: of its mount namespace.

        Raises:
            HostReadError: Its processes or files cannot be read.
        """
        creation = Creation() if owner else self._creations.get(container_id, Creation())
        conmon = conmon_above(self._view, pid, owner)
        own = conmon.container_id == container_id
        if not own and not creation.name and runtime in ("", *MONITORED):
            # inotify may tell later that its directory was made, and its init may have ended.
            creation = creation_of(self._view, container_id, runtime or creation.runtime, owner)
        container = Container(
            runtime=RuntimeInfo(
                name=runtime or creation.runtime,
                container_id=container_id,
                container_name=(conmon.name if own else creation.name) or container_id,
            ),
            bundle=bundle or (conmon.bundle if own else creation.bundle),
        )
        config = self._bundles.of_init(pid, container_id, container.bundle, owner)
        return annotated(container, annotations_of(config))

    # StateListener: what the state of runtimes tells.

    def creating(self, container_id: str, runtime: str, speaker: Speaker) -> None:
        # podman and CRI-O need not be asked: their monitor was told the container's name. A user's
        # podman is asked about only when the container has a process, of which that user may speak.
        if not speaker.is_root or (not self._announces and runtime not in MONITORED):
            return
        try:
            creation = creation_of(self._view, container_id, runtime)
        except HostReadError as error:
            # Its name is asked for again when it has a process.
            self._view.failures.add(error)
            return
        while len(self._creations) >= MAX_CREATIONS:
            del self._creations[next(iter(self._creations))]
        self._creations[container_id] = creation
        self._reactor.later(CREATION_SECONDS, lambda: self._forget(container_id, creation))
        if self._announces:
            bundle = creation.bundle
            config = self._config_of_host(bundle)
            info = RuntimeInfo(container_id=container_id)
            self._sink.announce(Container(runtime=info, bundle=bundle, oci_config=config))

    def created(self, container_id: str, runtime: str, state: State, speaker: Speaker) -> None:
        by = claim(speaker, Rank.ROOT_STATE)
        if self._sink.known(container_id, by):
            return
        born = state.start or self._view.born(state.pid)
        owner = self._view.owner_of(state.pid)
        if not speaker.may_speak_of(owner):
            self._sink.not_own(_bare(container_id), by)
            return
        container = self.describe(container_id, runtime, state.pid, state.bundle, owner)
        if container is None:
            self._sink.ignore(container_id, by)
            return
        asked = self._engines.asked(container.runtime.name, owner)
        # What its monitor says of a container is as good as what the engine would say. containerd's
        # have no monitor, and the name in their annotations is without the image.
        info = container.runtime
        named = info.container_name != container_id and info.name not in WITHOUT_MONITOR
        own = not asked and not self._engines_may_answer(owner)
        if (named and asked) or (self._reports and (named or own)):
            self._sink.found_unmanaged(container, state.pid, DiscoverySource.STATE, by, born)
        else:
            source = DiscoverySource.STATE
            self._leave_to_engine(container_id, state.pid, source, by, born, runtime, state.bundle)

    def _forget(self, container_id: str, creation: Creation) -> None:
        if self._creations.get(container_id) is creation:
            del self._creations[container_id]

    def _config_of_host(self, bundle: str) -> str:
        try:
            return self._bundles.of_host(bundle, None) if bundle else ""
        except HostReadError as error:
            self._view.failures.add(error)
            return ""

    # What the processes tell.

    def told_by_kernel(self) -> None:
        """From now on the kernel tells of each new mount namespace: look less often."""
        self._second_opinion = True

    def _begin(self) -> None:
        self._poll(self._next_look)

    def _poll(self, due: float) -> None:
        # Of two timers the one that was set last counts.
        if due == self._next_look:
            self._look_through()
            self._again()

    def _again(self) -> None:
        """Look again: soon, until what ran at the start is decided about."""
        if not self._undecided:
            self._scanned.set()
        if not self._scanned.is_set():
            self._look_in(self._pause)
            self._pause = min(2 * self._pause, FIRST_POLL)
        elif self._second_opinion and not self._unclaimed:
            self._look_in(SECOND_OPINION_SECONDS)
        else:
            self._look_in(POLL_SECONDS)

    def _look_in(self, seconds: float) -> None:
        due = self._next_look = time.monotonic() + seconds
        self._reactor.later(seconds, lambda: self._poll(due))

    def _look_through(self) -> None:
        if not self._view.same_pidns:
            return
        try:
            # Before the look: what begins meanwhile is looked for the next time.
            last = self._view.last_pid()
            if last and last == self._last_pid and not self._unclaimed:
                return
            now = set(self._view.pids())
        except HostReadError as error:
            self._view.failures.add(error)
            return
        before, self._unclaimed = self._unclaimed, {}
        self._undecided = False
        unread, reused = set(), set()
        for pid, found in before.items():
            if pid not in now or self._sink.known(found.container_id, found.claim):
                continue
            try:
                if self._view.born(pid) == found.born:
                    self._still_unclaimed(pid, found)
                else:
                    reused.add(pid)
            except HostReadError as error:
                self._view.failures.add(error)
                self._unclaimed[pid] = found
        for pid in (now - self._processes - before.keys()) | reused:
            try:
                self._look_at(pid)
            except HostReadError as error:
                # It is looked at again the next time.
                self._view.failures.add(error)
                unread.add(pid)
        self._processes = now - unread
        self._last_pid = 0 if unread else last

    def _look_at(self, pid: int) -> None:
        born = self._view.born(pid)
        container_id, speaker = container_of_init(self._view, pid)
        by = claim(speaker, Rank.KERNEL)
        if container_id and not self._sink.known(container_id, by):
            self._leave_to_engine(container_id, pid, DiscoverySource.PROCESSES, by, born)

    def _leave_to_engine(
        self,
        container_id: str,
        pid: int,
        source: DiscoverySource,
        by: Claim,
        born: int,
        runtime: str = "",
        bundle: str = "",
    ) -> None:
        """Its engine is to describe it; if it has not by a later look, none will."""
        wait = POLL_SECONDS if self._scanned.is_set() else FIRST_POLL
        due = time.monotonic() + wait
        unlisted = not self._engines.listed
        self._unclaimed[pid] = _Unclaimed(container_id, by, due, unlisted, born, runtime, bundle)
        self._undecided = True
        if self._next_look > due:
            self._look_in(wait)
        self._sink.init_found(container_id, pid, source, by, born)

    def _engines_may_answer(self, owner: int | None) -> bool:
        """Whether any engine may, for a container of which it is not known whose it is."""
        if time.monotonic() - self._began > ENGINE_SECONDS:
            return False
        return self._engines.may_answer("", owner)

    def _still_unclaimed(self, pid: int, found: _Unclaimed) -> None:
        container_id, by = found.container_id, found.claim
        owner = self._view.owner_of(pid)
        engine = found.runtime or engine_of_cgroup(self._view, pid)
        container = self.describe(container_id, engine, pid, found.bundle, owner)
        if container is None:
            self._sink.ignore(container_id, by)
            return
        engine = container.runtime.name
        listed = found.unlisted and self._engines.listed
        undecided = not listed and time.monotonic() < found.due
        if not self._engines.asked(engine, owner):
            undecided |= self._engines_may_answer(owner)
        if undecided or self._engines.may_answer(engine, owner):
            self._unclaimed[pid] = found
            self._undecided |= undecided
        elif self._reports and not self._engines.restricted(engine):
            self.found_by_processes_only += 1
            self._sink.found_unmanaged(container, pid, DiscoverySource.PROCESSES, by, found.born)


def _bare(container_id: str) -> Container:
    return Container(runtime=RuntimeInfo(container_id=container_id))
