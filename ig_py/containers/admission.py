"""Decisions about new mount namespaces: which container each one is, if any.

The events of a pending namespace wait in the streams (docs/discovery.md). Its container is found
by its cgroup, by the runtime's command line, and by what engines say. Everything happens in the
scout's thread, which does no network I/O.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ig_py.containers.collection import Event, EventType
from ig_py.containers.engines.clients import EngineClients
from ig_py.containers.identify import Found, identify
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.containers.pending import PendingNamespace, PendingNamespaces
from ig_py.containers.scout import Kind, Scout, acquire
from ig_py.containers.speakers import KERNEL, Claim
from ig_py.containers.targets import Awaited
from ig_py.host.files import HostReadError
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor
from ig_py.records import dataclass, replace

if TYPE_CHECKING:
    from ig_py._core import Map, ScoutNotice, Stream

log = logging.getLogger(__name__)

DECIDE_SECONDS = 2.0
"""How long events may wait for their container to be identified."""


class KnownContainers(Protocol):
    """What is known of containers: the discovery."""

    @property
    def engines(self) -> EngineClients: ...

    @property
    def reports_unmanaged(self) -> bool:
        """Whether containers that no engine knows are wanted."""

    def description(self, container_id: str, by: Claim, owner: int | None) -> Container | None:
        """What an engine has said of it that counts for a container of *owner* which *by* has
        named."""

    def describe_by_files(self, found: Found, pid: int, owner: int | None) -> Container | None:
        """What its processes and files tell of a container; None for a pod's sandbox."""

    def ignored(self, container_id: str, by: Claim) -> bool:
        """Whether it is a pod's sandbox, which only holds the pod's namespaces."""

    def current(self, container_id: str, by: Claim | None = None) -> Container | None:
        """The container that runs under that id; None as well when *by* counts more than what it
        was taken in by."""

    def contradicts(self, container: Container, by: Claim) -> bool:
        """Whether *by* gives a user's process the id of a container of root's. It is counted."""

    def by_mntns(self, mntns: int) -> Container | None:
        """The container that runs in that mount namespace."""

    def holder(self, mntns: int) -> Container | None:
        """The container that has that mount namespace, or had it last and keeps its number from
        being used again."""

    def admit(self, container: Container, pid: int, mntns: int, by: Claim, *, named: bool) -> None:
        """Take it in with *pid* as its init, whose mount namespace the kernel told to be *mntns*;
        nothing happens when *pid* has ended. *named*: see :class:`Event`."""

    def admit_ended(self, container: Container, generation: int, by: Claim, *, named: bool) -> bool:
        """Take in a container whose processes have all ended, so that its events are named;
        False when another one of its id runs."""


class AdmissionSubscriber(Protocol):
    """What a gadget's run does about new namespaces, and those that are not new containers."""

    def announced(self, mntns: int, process: str) -> None:
        """The namespace is new, and that of ``/proc/PID``, *process*, if that still runs."""

    def reject(self, mntns: int, generation: int, *, lose: bool, superseded: bool = False) -> None:
        """The namespace belongs to no container; *lose*: to one that cannot be identified.
        *superseded*: its inode number is a later namespace's, which was decided about first."""

    def readmit(self, container: Container, generation: int) -> None:
        """The kernel had forgotten the namespace of that container: its events wait again."""


@dataclass
class Totals:
    """Counts of new mount namespaces since the start."""

    containers: int = 0
    ended: int = 0
    """Containers that had ended before they were looked at; part of *containers*."""
    late: int = 0
    """Containers whose first events did not pass the filters; part of *containers*."""
    others: int = 0
    unidentified: int = 0


class Admission:
    """The decisions of one gadget's run.

    Raises:
        CoreError: The kernel lacks what the scout needs.
        KernelError: Tracepoints cannot be found.
    """

    def __init__(
        self, view: HostView, known: KnownContainers, decide_seconds: float = DECIDE_SECONDS
    ) -> None:
        self._view = view
        self._known = known
        self._seconds = decide_seconds
        self._pending = PendingNamespaces()
        self._subscribers: list[AdmissionSubscriber] = []
        self._early: list[ScoutNotice] | None = []
        self._closed = False
        self._silence_said = False
        self.totals = Totals()
        self.wanted: Callable[[Container], bool] = lambda _container: True
        """Whether a container's first events are missed when they do not pass."""
        self._scout: Scout = acquire(view, self._notice)

    def begin(self) -> None:
        """Begin to listen; decisions wait for :meth:`subscribe`, events from :meth:`serve` on."""
        self._scout.begin()

    def open(self, filter_map: Map) -> None:
        """New namespaces pass *filter_map* from now on: call :meth:`serve` before events flow."""
        self._scout.open(filter_map)

    def serve(self, stream: Stream, *, selective: bool) -> None:
        """Events of pending namespaces wait in *stream*. *selective*: only selected containers are
        wanted."""
        self._scout.serve(stream, selective=selective)

    def subscribe(self, subscriber: AdmissionSubscriber) -> None:
        """*subscriber* acts on decisions, of which the first are made now."""
        self._subscribers.append(subscriber)
        self._scout.reactor.soon(self._catch_up)

    def withdraw(self, filter_map: Map, mntns: int, generation: int) -> None:
        """Delete a namespace from *filter_map*, unless a later one has its inode number."""
        self._scout.withdraw(filter_map, mntns, generation)

    def counts(self) -> dict[str, int]:
        """The scout's counts (``_core.Scout.counts``)."""
        return self._scout.counts()

    def close(self) -> None:
        self._closed = True
        self._subscribers.clear()
        self._scout.release()

    @property
    def reactor(self) -> Reactor:
        """The scout's thread."""
        return self._scout.reactor

    def described(self, container_id: str) -> None:
        """An engine described a container; any thread."""
        self._scout.reactor.soon(lambda: self._look_again(container_id))

    def changed(self, event: Event) -> None:
        """A subscriber of the collection: a namespace is decided about when any source takes its
        container in."""
        # The end of an earlier container decides nothing about a later one of its inode number.
        if event.type not in (EventType.CREATED, EventType.UPDATED) or event.generation:
            return
        pending = self._pending.latest(event.container.mntns)
        if pending is not None:
            self._scout.reactor.soon(lambda: self._taken_in(pending.mntns))

    def when_decided(self, awaited: Awaited, done: Callable[[], None]) -> None:
        """Call *done* once the pending namespaces of these containers are decided about, as far as
        that is possible before they execute a program. In the scout's thread only.

        It is called after half of the time that events may wait for their container, too: an
        engine may answer only when the runtime has started the container, and then its events are
        still to be decided about by that answer.
        """
        left = [done]

        def once() -> None:
            if left:
                left.pop()()

        self._scout.read()
        self._pending.when_decided(awaited, once)
        if left:
            self._scout.reactor.later(self._seconds / 2, once)

    # All below: the scout's thread.

    def _catch_up(self) -> None:
        early, self._early = self._early, None
        for notice in early or ():
            self._notice(notice)

    def _notice(self, notice: ScoutNotice) -> None:
        if self._closed:
            return
        if self._early is not None:
            self._early.append(notice)
            return
        pending = self._pending.get(notice.generation)
        if notice.kind == Kind.NEW:
            if pending is None:
                self._begin(PendingNamespace.from_notice(notice))
        elif pending is None:
            return
        elif notice.kind == Kind.EXIT:
            pending.processes.discard(notice.pid)
            if not pending.processes:
                self._ended(pending)
        else:
            pending.heed(notice)
            self._look(pending)

    def _begin(self, pending: PendingNamespace) -> None:
        if self._pending.is_superseded(pending):
            # Notices about users' namespaces are read later than those about root's.
            self._reject(pending, superseded=True)
            return
        before = self._pending.add(pending)
        if before is not None:
            # The earlier namespace of this inode number has ended. It is decided about first:
            # streams keep names by inode number, and those of the later one are to stay.
            before.processes.clear()
            self._ended(before)
        for subscriber in list(self._subscribers):
            subscriber.announced(pending.mntns, f"{self._view.proc}/{pending.pid}")
        # Looked for first: what runs now in the latest namespace of the number is in this one.
        running = self._known.by_mntns(pending.mntns)
        if running is not None and not self._superseded(pending):
            for subscriber in list(self._subscribers):
                subscriber.readmit(running, pending.generation)
            self._taken(pending)
        elif pending.pid == self._view.own_pid:
            self._reject(pending)
        else:
            self._scout.reactor.later(self._seconds, lambda: self._time_is_up(pending))
            self._look(pending)

    def _look(self, pending: PendingNamespace) -> None:
        if pending.found is None:
            self._identify(pending)
        # Every runtime has moved init into its cgroup before init executes a program.
        nothing = pending.found is None and pending.executed and not pending.unread
        if pending.sandbox or nothing:
            self._reject(pending)
            return
        container = self._container(pending)
        if container is not None and pending.init:
            self._known.admit(container, pending.init, pending.mntns, _claim(pending), named=True)

    def _look_again(self, container_id: str) -> None:
        for pending in self._pending.of_container(container_id):
            self._look(pending)

    def _identify(self, pending: PendingNamespace) -> None:
        pending.unread = False
        try:
            self._find(pending)
        except HostReadError as error:
            self._view.failures.add(error)
            pending.unread = True
            # What is known of it is incomplete: it is identified again.
            pending.found = pending.by_files = None

    def _find(self, pending: PendingNamespace) -> None:
        pid = pending.init or pending.pid
        found = identify(
            self._view,
            pid,
            pending.ppid,
            pending.comm,
            pending.cgroup,
            owner=pending.owner,
            executed=pending.executed,
            moved=pending.moved,
        )
        if found is None or pending.contradicted:
            return
        container_id, by = found.container_id, found.claim
        info = RuntimeInfo(name=found.runtime, container_id=container_id)
        if self._known.contradicts(Container(runtime=info), by):
            pending.contradicted = True
            return
        current = self._known.current(container_id, by)
        if current and current.mntns != pending.mntns:
            # A process of a running container made it: it is not the container's own.
            return
        pending.found = found
        if self._description(pending) is None:
            pending.by_files = self._known.describe_by_files(found, pid, pending.owner)
            pending.sandbox = pending.by_files is None or self._known.ignored(container_id, by)

    def _description(self, pending: PendingNamespace) -> Container | None:
        found = pending.found
        if found is None:
            return None
        return self._known.description(found.container_id, found.claim, pending.owner)

    def _container(self, pending: PendingNamespace) -> Container | None:
        """The container as far as it is known; None while its engine may still describe it."""
        description, found = self._description(pending), pending.found
        if description is not None or found is None:
            return description
        container = self._by_files(pending)
        if container is None or not found.engine or _named_by_monitor(container):
            return container
        return None if self._answers(pending, container) else container

    def _by_files(self, pending: PendingNamespace) -> Container | None:
        """What is known of it without an engine, if that is enough for this run."""
        container = pending.by_files
        if container is None or self._known.reports_unmanaged:
            return container
        asked = self._known.engines.asked(container.runtime.name, pending.owner)
        return container if asked and _named_by_monitor(container) else None

    def _answers(self, pending: PendingNamespace, container: Container) -> bool:
        return self._known.engines.answers(container.runtime.name, pending.owner)

    def _time_is_up(self, pending: PendingNamespace) -> None:
        if self._closed or pending not in self._pending:
            return
        if pending.found is None:
            self._identify(pending)
        self._conclude(pending)

    def _ended(self, pending: PendingNamespace) -> None:
        """Its last process has ended, or its inode number is a later namespace's by now."""
        if pending not in self._pending:
            return
        if pending.found is None:
            self._identify(pending)
        if pending.found is None or pending.sandbox or not pending.executed:
            self._reject(pending)
        elif self._container(pending) is not None:
            self._conclude(pending)
        # Else an engine may still describe it: its events wait until the time is up.

    def _conclude(self, pending: PendingNamespace) -> None:
        """Decide by what is known now: no more can be learned."""
        container = self._description(pending) or self._by_files(pending)
        if container is None or pending.sandbox:
            self._give_up(pending)
            return
        named = self._container(pending) is not None
        self.totals.unidentified += not named
        if pending.processes:
            init = pending.init or min(pending.processes)
            self._known.admit(container, init, pending.mntns, _claim(pending), named=named)
        # Another source may have taken it in, and it has ended since.
        holder = self._known.holder(pending.mntns)
        if holder is not None and holder.id == container.id and not self._superseded(pending):
            self._taken(pending)
        else:
            self._admit_ended(pending, container, named=named)

    def _superseded(self, pending: PendingNamespace) -> bool:
        return self._scout.is_superseded(pending.mntns, pending.generation)

    def _admit_ended(self, pending: PendingNamespace, container: Container, *, named: bool) -> None:
        runtime = replace(container.runtime, pid=pending.init or pending.pid)
        ended = replace(container, runtime=runtime, mntns=pending.mntns, owner=pending.owner)
        by = _claim(pending)
        if not self._known.admit_ended(ended, pending.generation, by, named=named):
            log.debug("container %a: its events are lost, another one runs", container.id)
            self._tell(pending, lose=True)
            return
        self.totals.ended += 1
        self._count(pending)
        self._settle(pending)

    def _taken_in(self, mntns: int) -> None:
        """Another source has taken in the container that has this namespace now, perhaps before the
        scout's notice of it was read: then the pending one is an earlier one of that number."""
        self._scout.read()
        pending = self._pending.latest(mntns)
        # Some notices about users' namespaces are read later.
        if pending is not None and not self._superseded(pending):
            self._taken(pending)

    def _taken(self, pending: PendingNamespace) -> None:
        if pending in self._pending:
            self._count(pending)
            self._settle(pending)

    def _count(self, pending: PendingNamespace) -> None:
        self.totals.containers += 1
        container = self._known.by_mntns(pending.mntns) or self._description(pending)
        self.totals.late += pending.late and (container is None or self.wanted(container))

    def _give_up(self, pending: PendingNamespace) -> None:
        """No container is known for it: there is none, or its engine is not asked, or is silent."""
        found, container = pending.found, pending.by_files
        engine = container.runtime.name if container else ""
        silent = self._known.engines.silent(engine, pending.owner)
        if found and found.engine and not pending.sandbox and silent:
            self.totals.unidentified += 1
            if not self._silence_said:
                self._silence_said = True
                log.warning(
                    "container %.12s: an engine that is asked does not answer, so it is not known"
                    " whether this container is selected: its events are lost, and those of others"
                    " like it; ig-py doctor tells which engine",
                    found.container_id,
                )
            self._tell(pending, lose=True)
        else:
            self._reject(pending)

    def _reject(self, pending: PendingNamespace, *, superseded: bool = False) -> None:
        self.totals.others += 1
        self._tell(pending, lose=pending.contradicted or pending.unread, superseded=superseded)

    def _tell(self, pending: PendingNamespace, *, lose: bool, superseded: bool = False) -> None:
        mntns, generation = pending.mntns, pending.generation
        for subscriber in list(self._subscribers):
            subscriber.reject(mntns, generation, lose=lose, superseded=superseded)
        self._settle(pending)

    def _settle(self, pending: PendingNamespace) -> None:
        due = self._pending.remove(pending)
        self._scout.settle(pending.mntns, pending.generation)
        for done in due:
            done()


def _claim(pending: PendingNamespace) -> Claim:
    return pending.found.claim if pending.found else KERNEL


def _named_by_monitor(container: Container) -> bool:
    """Whether podman's monitor told its name: it tells as much as podman would."""
    runtime = container.runtime
    return runtime.name == "podman" and runtime.container_name != runtime.container_id
