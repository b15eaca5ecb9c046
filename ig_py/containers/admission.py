"""Who is it? Decides about every new mount namespace that the kernel's scout let in.

The events of a pending namespace wait in the streams (docs/discovery.md). Here it is found out
which container it is, if any: by cgroup, by the runtime's command line, by what engines said.
Everything happens in the scout's thread, which does no network I/O.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ig_py.containers.collection import Event, EventType
from ig_py.containers.identify import Found, identify
from ig_py.containers.model import Container
from ig_py.containers.scout import PLACED, Kind, Scout, acquire
from ig_py.containers.sources import Source
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor
from ig_py.records import dataclass, field, replace

if TYPE_CHECKING:
    from ig_py._core import Map, Notice, Stream

log = logging.getLogger(__name__)

DECIDE_SECONDS = 2.0
"""How long events may wait for their container to be identified."""
MAX_PROCESSES = 64
"""Processes of one pending namespace that are followed (the kernel tells of no more)."""


class Finder(Protocol):
    """What is known of containers: the discovery."""

    @property
    def engineless(self) -> bool:
        """Whether containers that no engine knows are wanted."""

    def asked(self, runtime: str) -> bool:
        """Whether an engine of that name is to describe its own."""

    def expects(self, runtime: str) -> bool:
        """Whether an engine of that name ("": any) answers, and so will describe its own."""

    def silent(self, runtime: str) -> bool:
        """Whether an engine of that name, or of any if it is no engine's, is asked and does not
        answer."""

    def described(self, container_id: str, runtime: str, pid: int, bundle: str) -> Container | None:
        """What its process and files tell of a container; None for a pod's sandbox."""

    def ignored(self, container_id: str) -> bool:
        """Whether it is only what holds a pod together."""

    def record(self, container_id: str) -> Container | None:
        """What an engine has said of it."""

    def current(self, container_id: str) -> Container | None:
        """The one that runs under that id, its process alive."""

    def by_mntns(self, mntns: int) -> Container | None:
        """The live one in that mount namespace."""

    def admit(self, container: Container, pid: int, mntns: int) -> None:
        """Take it in with *pid* as its init, whose mount namespace the kernel told to be
        *mntns*; nothing happens when that has ended."""

    def nobodys(self, container: Container, pid: int, source: Source, mntns: int) -> None:
        """The same for one that no engine described."""

    def admit_ended(self, container: Container) -> bool:
        """Take in one whose processes have all ended, for the sake of its events; False when
        another one of its id runs."""


class Follower(Protocol):
    """What a gadget does about namespaces that are no containers."""

    def reject(self, mntns: int, birth: int, *, lose: bool) -> None:
        """*lose*: it was a container, but which one nobody can tell."""

    def again(self, container: Container, birth: int) -> None:
        """The kernel had forgotten that one, and its events wait anew."""


@dataclass
class Pending:
    mntns: int
    birth: int
    pid: int
    ppid: int
    comm: str
    cgroup: str
    home: str
    """Its first process' cgroup when it began."""
    placed: bool
    init: int = 0
    executed: bool = False
    found: Found | None = None
    alone: Container | None = None
    """As much as is known without an engine."""
    sandbox: bool = False
    processes: set[int] = field(default_factory=set)


@dataclass
class Totals:
    """Of new mount namespaces, since the start."""

    containers: int = 0
    ended: int = 0
    """Containers that had ended before they were looked at; part of *containers*."""
    others: int = 0
    unidentified: int = 0


class Admission:
    """One gadget run's decisions."""

    def __init__(
        self, view: HostView, finder: Finder, decide_seconds: float = DECIDE_SECONDS
    ) -> None:
        """:raises CoreError: the kernel lacks what the scout needs."""
        self._view = view
        self._finder = finder
        self._seconds = decide_seconds
        self._pending: dict[int, Pending] = {}
        self._current: dict[int, Pending] = {}
        self._followers: list[Follower] = []
        self._early: list[Notice] | None = []
        self._barriers: list[tuple[set[int], Callable[[], None]]] = []
        self._closed = False
        self._said_silent = False
        self.ended: dict[str, int] = {}
        """Birth of the namespace of a container that is being taken in after its end."""
        self.unnamed: set[str] = set()
        """Containers that are being taken in without what their engine knows of them."""
        self.totals = Totals()
        self._scout: Scout = acquire(view, self._notice)

    def begin(self) -> None:
        """Begin to listen; decisions wait for :meth:`follow`, events from :meth:`serve` on."""
        self._scout.begin()

    def open(self, filter_map: Map) -> None:
        """New namespaces pass *filter_map* from now on: call :meth:`serve` before events flow."""
        self._scout.open(filter_map)

    def serve(self, stream: Stream) -> None:
        """Events of pending namespaces wait in *stream*."""
        self._scout.serve(stream)

    def follow(self, follower: Follower) -> None:
        """*follower* acts on decisions, of which the first are made now."""
        self._followers.append(follower)
        self._scout.reactor.soon(self._catch_up)

    def withdraw(self, filter_map: Map, mntns: int, birth: int) -> None:
        self._scout.withdraw(filter_map, mntns, birth)

    def counts(self) -> dict[str, int]:
        return self._scout.counts()

    def close(self) -> None:
        self._closed = True
        self._followers.clear()
        self._scout.release()

    def engine_said(self, container_id: str) -> None:
        """An engine described a container; any thread."""
        self._scout.reactor.soon(lambda: self._look_again(container_id))

    @property
    def reactor(self) -> Reactor:
        return self._scout.reactor

    def when_decided(self, done: Callable[[], None]) -> None:
        """Call *done* once the containers that are pending now are decided about, as far as
        that is possible before they execute anything. In the scout's thread only."""
        self._scout.read()
        births = {
            pending.birth
            for pending in self._pending.values()
            if pending.found is not None and pending.init and not pending.sandbox
        }
        if births:
            self._barriers.append((births, done))
        else:
            done()

    def changed(self, event: Event) -> None:
        """A subscriber of the collection: whoever took a container in decided about it."""
        # The end of an earlier one says nothing about who has its number now.
        if event.type not in (EventType.CREATED, EventType.UPDATED):
            return
        pending = self._current.get(event.container.mntns)
        if pending is not None and event.container.id not in self.ended:
            self._scout.reactor.soon(lambda: self._taken(pending))

    # All below: the scout's thread.

    def _catch_up(self) -> None:
        early, self._early = self._early, None
        for notice in early or ():
            self._notice(notice)

    def _notice(self, notice: Notice) -> None:
        if self._closed:
            return
        if self._early is not None:
            self._early.append(notice)
            return
        known = self._pending.get(notice.birth)
        if notice.kind == Kind.NEW:
            if known is None:
                self._begin(notice)
            return
        if known is None:
            return
        if notice.kind == Kind.EXIT:
            known.processes.discard(notice.pid)
            if not known.processes:
                self._over(known)
            return
        if len(known.processes) < MAX_PROCESSES:
            known.processes.add(notice.pid)
        if notice.kind in (Kind.EXEC, Kind.MOVED):
            known.cgroup = os.fsdecode(notice.cgroup)
            known.comm = os.fsdecode(notice.comm)
        known.executed |= notice.kind == Kind.EXEC
        if not known.init and (notice.nspid == 1 or notice.kind == Kind.EXEC):
            known.init = notice.pid
        self._look(known)

    def _begin(self, notice: Notice) -> None:
        pending = Pending(
            notice.mntns,
            notice.birth,
            notice.pid,
            notice.ppid,
            os.fsdecode(notice.comm),
            os.fsdecode(notice.cgroup),
            os.fsdecode(notice.cgroup),
            bool(notice.flags & PLACED),
            init=notice.pid if notice.nspid == 1 else 0,
            processes={notice.pid},
        )
        before = self._current.get(pending.mntns)
        self._pending[pending.birth] = self._current[pending.mntns] = pending
        if before is not None:
            # First: names are by number, and the later one's are to stay.
            before.processes.clear()
            self._over(before)
        live = self._finder.by_mntns(pending.mntns)
        if live is not None:
            for follower in list(self._followers):
                follower.again(live, pending.birth)
            self._taken(pending)
        elif notice.pid == self._view.own_pid:
            self._reject(pending)
        else:
            self._scout.reactor.later(self._seconds, lambda: self._late(pending))
            self._look(pending)

    def _look(self, pending: Pending) -> None:
        if pending.found is None:
            self._identify(pending)
        # Every runtime has moved init into its cgroup before init executes anything.
        if pending.sandbox or (pending.found is None and pending.executed):
            self._reject(pending)
            return
        if self._container(pending) is not None and pending.init:
            self._take_in(pending, pending.init)

    def _take_in(self, pending: Pending, pid: int) -> None:
        record = self._record(pending)
        if record is not None:
            self._finder.admit(record, pid, pending.mntns)
        elif pending.alone is not None:
            self._finder.nobodys(pending.alone, pid, Source.KERNEL, pending.mntns)

    def _identify(self, pending: Pending) -> None:
        pid = pending.init or pending.pid
        told = (pending.ppid, pending.comm, pending.cgroup)
        # Who has executed a runtime may be a service in a group of its own.
        moved = pending.cgroup != pending.home or (pending.placed and not pending.executed)
        found = identify(self._view, pid, *told, executed=pending.executed, moved=moved)
        if found is None:
            return
        current = self._finder.current(found.container_id)
        if current and current.mntns != pending.mntns:
            # A process of a running container made it: it is not the container's own.
            return
        pending.found = found
        if self._finder.record(found.container_id) is None:
            pending.alone = self._finder.described(
                found.container_id, found.runtime, pid, found.bundle
            )
            pending.sandbox = pending.alone is None or self._finder.ignored(found.container_id)

    def _record(self, pending: Pending) -> Container | None:
        return self._finder.record(pending.found.container_id) if pending.found else None

    def _container(self, pending: Pending) -> Container | None:
        """What is known of it, unless an engine is to tell more."""
        record, found, alone = self._record(pending), pending.found, self._alone(pending)
        if record is not None or found is None or alone is None:
            return record
        if found.engine and self._finder.expects(alone.runtime.name) and not _named(alone):
            return None
        return alone

    def _alone(self, pending: Pending) -> Container | None:
        """What is known of it without an engine, if that is enough for this run."""
        alone = pending.alone
        if alone is None or self._finder.engineless:
            return alone
        return alone if _named(alone) and self._finder.asked(alone.runtime.name) else None

    def _look_again(self, container_id: str) -> None:
        for pending in list(self._pending.values()):
            if pending.found and pending.found.container_id == container_id:
                self._look(pending)

    def _late(self, pending: Pending) -> None:
        if not self._waits(pending):
            return
        if pending.found is None:
            self._identify(pending)
        self._conclude(pending)

    def _over(self, pending: Pending) -> None:
        """Its last process has ended, or its number is another one's by now."""
        if not self._waits(pending):
            return
        if pending.found is None:
            self._identify(pending)
        if pending.found is None or pending.sandbox or not pending.executed:
            self._reject(pending)
        elif self._container(pending) is not None:
            self._conclude(pending)
        # Else the engine's word may still come, and the events can wait.

    def _conclude(self, pending: Pending) -> None:
        """No more can be learned."""
        container = self._record(pending) or self._alone(pending)
        if container is None or pending.sandbox:
            self._give_up(pending)
            return
        if self._container(pending) is None:
            self.totals.unidentified += 1
            self.unnamed.add(container.id)
        try:
            if pending.processes:
                self._take_in(pending, pending.init or min(pending.processes))
            current = self._finder.current(container.id)
            if current is not None and current.mntns == pending.mntns:
                self._taken(pending)
            else:
                self._admit_ended(pending, container)
        finally:
            self.unnamed.discard(container.id)

    def _admit_ended(self, pending: Pending, container: Container) -> None:
        runtime = replace(container.runtime, pid=pending.init or pending.pid)
        self.ended[container.id] = pending.birth
        try:
            known = self._finder.admit_ended(
                replace(container, runtime=runtime, mntns=pending.mntns)
            )
        finally:
            del self.ended[container.id]
        if not known:
            log.debug("container %a: its events are lost, another one runs", container.id)
            self._tell(pending, lose=True)
            return
        self.totals.ended += 1
        self.totals.containers += 1
        self._settle(pending)

    def _taken(self, pending: Pending) -> None:
        if self._waits(pending):
            self.totals.containers += 1
            self._settle(pending)

    def _give_up(self, pending: Pending) -> None:
        """It is no container, or another engine's; or the one that knows it does not answer."""
        found, alone = pending.found, pending.alone
        name = alone.runtime.name if alone else ""
        if found and found.engine and not pending.sandbox and self._finder.silent(name):
            self.totals.unidentified += 1
            if not self._said_silent:
                self._said_silent = True
                log.warning(
                    "container %.12s: an engine that is asked does not answer, so nobody can tell"
                    " whether it is wanted: its events are lost, and those of others like it; ig-py"
                    " doctor tells which engine",
                    found.container_id,
                )
            self._tell(pending, lose=True)
        else:
            self._reject(pending)

    def _reject(self, pending: Pending) -> None:
        self.totals.others += 1
        self._tell(pending, lose=False)

    def _tell(self, pending: Pending, *, lose: bool) -> None:
        for follower in list(self._followers):
            follower.reject(pending.mntns, pending.birth, lose=lose)
        self._settle(pending)

    def _settle(self, pending: Pending) -> None:
        self._pending.pop(pending.birth, None)
        if self._current.get(pending.mntns) is pending:
            del self._current[pending.mntns]
        self._scout.settle(pending.mntns, pending.birth)
        for births, done in list(self._barriers):
            births.discard(pending.birth)
            if not births:
                self._barriers.remove((births, done))
                done()

    def _waits(self, pending: Pending) -> bool:
        return pending.birth in self._pending


def _named(alone: Container) -> bool:
    """Podman's monitor tells as much as podman would."""
    runtime = alone.runtime
    return runtime.name == "podman" and runtime.container_name != runtime.container_id
