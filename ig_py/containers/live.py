"""Containers whose init runs: from the moment its process is held to the end of the grace time.

A container ends when its pidfd says that init ended. Where /proc is of another pid namespace than
this process, init has no pidfd: the container ends when its engine says so, or when init's /proc
entry has changed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from ig_py.containers.collection import ContainerCollection
from ig_py.containers.contradictions import Contradiction, Contradictions
from ig_py.containers.model import Container
from ig_py.containers.speakers import Claim, Speaker
from ig_py.host.files import HostReadError
from ig_py.host.proc import HostView, Process, alive
from ig_py.host.reactor import Reactor
from ig_py.records import dataclass

PROC_POLL_SECONDS = 1.0
"""How often processes without a pidfd are looked at."""


@dataclass(frozen=True, slots=True)
class _Init:
    pidfd: int
    readable: bool
    """Whether its namespaces may be read."""
    claim: Claim
    """On what rests that it is this container's init."""
    born: int
    """As ``Process.born``."""


class LiveContainers:
    """Thread-safe; *lock* is the discovery's. *ended* is called with an id and the speaker who told
    of the container, with the lock held."""

    def __init__(
        self,
        view: HostView,
        reactor: Reactor,
        collection: ContainerCollection,
        lock: threading.RLock,
        ended: Callable[[str, Speaker], None],
        contradictions: Contradictions,
    ) -> None:
        self._view = view
        self._reactor = reactor
        self._collection = collection
        self._lock = lock
        self._ended = ended
        self._contradictions = contradictions
        self._inits: dict[str, _Init] = {}
        self._expiry_armed = False

    def start(self) -> None:
        if not self._view.same_pidns:
            self._reactor.later(PROC_POLL_SECONDS, self._look_at_processes)

    def close(self) -> None:
        """After the reactor stopped."""
        with self._lock:
            for init in self._inits.values():
                if init.pidfd >= 0:
                    os.close(init.pidfd)
            self._inits.clear()

    def __contains__(self, container_id: str) -> bool:
        """Whether it is in the collection; its init may have ended just now."""
        return container_id in self._inits

    def runs(self, container_id: str) -> bool:
        """Whether it is in the collection and its init runs."""
        with self._lock:
            init = self._inits.get(container_id)
            return init is not None and alive(init.pidfd)

    def current(self, container_id: str) -> Container | None:
        """The container that runs under that id."""
        with self._lock:
            return self._collection.get(container_id) if self.runs(container_id) else None

    def outranked(self, container_id: str, claim: Claim) -> bool:
        """Whether the container that has that id, if one has, gives way to one of *claim*."""
        with self._lock:
            init = self._inits.get(container_id)
            return init is None or init.claim.rank < claim.rank

    def add(self, container: Container, process: Process, claim: Claim, *, named: bool) -> bool:
        """Take in a container and the ownership of its init's *process*; False when it is in
        already, another one of its id or mount namespace counts more, or the collection refuses
        it. *named*: see :class:`Event`."""
        with self._lock:
            known = self.current(container.id)
            # A container that was added without its namespaces is added again with them.
            same = known is not None and container.mntns in (0, known.mntns)
            if same or self._had(container) or self._excluded(container, claim):
                process.close()
                return False
            if container.id in self._inits:
                self._end(container.id)
            if not self._collection.add(container, process.pins, named=named):
                process.close()
                return False
            pidfd = process.pidfd
            self._inits[container.id] = _Init(pidfd, bool(process.mntns), claim, process.born)
            if pidfd >= 0:
                self._reactor.watch(pidfd, lambda: self._exited(container.id, pidfd))
            return True

    def add_ended(
        self, container: Container, generation: int, claim: Claim, *, named: bool
    ) -> bool:
        """Take in a container whose processes have all ended, so that its events are named;
        False when another one of its id runs. *generation*: of its mount namespace."""
        with self._lock:
            if container.id in self._inits and not self.runs(container.id):
                # An earlier one of its id, whose end has not been noticed yet.
                self._end(container.id)
            if container.id in self._inits:
                if not self.outranked(container.id, claim):
                    return False
                self._displace(container.id, container)
            if not self._collection.add(container, generation=generation, named=named):
                return False
            self._remove(container.id, claim.speaker, generation)
            return True

    def died(self, container_id: str, claim: Claim) -> None:
        """An engine says that its init ended."""
        with self._lock:
            init = self._inits.get(container_id)
            # The engine may mean an earlier init of a container that was restarted since.
            ended = init and (init.pidfd < 0 or not alive(init.pidfd))
            if init and ended and claim.speaker == init.claim.speaker:
                self._end(container_id)

    def agrees(self, container_id: str, claim: Claim) -> bool:
        """Whether *claim* is of the speaker who told of the container that has that id."""
        with self._lock:
            init = self._inits.get(container_id)
            return init is None or claim.speaker == init.claim.speaker

    def of_user(self, speaker: Speaker) -> int:
        """How many containers are in by the word of *speaker*."""
        with self._lock:
            return sum(init.claim.speaker == speaker for init in self._inits.values())

    def of_users(self) -> int:
        """How many are in by the word of others than root."""
        with self._lock:
            return sum(not init.claim.speaker.is_root for init in self._inits.values())

    def _excluded(self, container: Container, claim: Claim) -> bool:
        """Whether a container that runs excludes that there is another *container* with its id, or
        in its mount namespace; one of a lower rank is ended instead."""
        known = self.current(container.id)
        if known and known.mntns:
            if not self.outranked(known.id, claim):
                # Without a pidfd, the known one may have ended and be starting again.
                if self._inits[known.id].pidfd >= 0:
                    self._contradictions.add(Contradiction.ID, container, claim, known)
                return True
            self._displace(known.id, container)
        other = self._collection.by_mntns(container.mntns) if container.mntns else None
        if other is None or other.id == container.id or not self.runs(other.id):
            return False
        if self.outranked(other.id, claim):
            self._displace(other.id, container)
        elif not claim.speaker.is_root or other.runtime.pid == container.runtime.pid:
            self._contradictions.add(Contradiction.NAMESPACE, container, claim, other)
            return True
        # Else root has put two containers into one mount namespace.
        return False

    def _displace(self, container_id: str, by: Container) -> None:
        kind = Contradiction.ID if by.id == container_id else Contradiction.NAMESPACE
        ignored = self._collection.get(container_id)
        if ignored is not None:
            self._contradictions.add(kind, ignored, self._inits[container_id].claim, by)
        self._end(container_id)

    def _had(self, container: Container) -> bool:
        """Whether this very init was in already. It may have ended since another source saw it
        alive; its namespace is pinned for the grace time, so that its number is not reused."""
        found = self._collection.by_mntns(container.mntns) if container.mntns else None
        return (
            found is not None
            and found.id == container.id
            and found.runtime.pid == container.runtime.pid
        )

    # The reactor's thread.

    def _exited(self, container_id: str, pidfd: int) -> None:
        with self._lock:
            init = self._inits.get(container_id)
            # The number may be another descriptor's by now: ask it again.
            if init and init.pidfd == pidfd and not alive(pidfd):
                self._end(container_id)

    def _look_at_processes(self) -> None:
        with self._lock:
            for container_id in list(self._inits):
                container = self._collection.get(container_id)
                if container is not None and not self._has_process(container):
                    self._end(container_id)
        self._reactor.later(PROC_POLL_SECONDS, self._look_at_processes)

    def _has_process(self, container: Container) -> bool:
        pid = container.runtime.pid
        try:
            if self._view.born(pid) != self._inits[container.id].born:
                return False
            if self._inits[container.id].readable:
                return self._view.namespace(pid, "mnt") == container.mntns
            return self._view.status(pid).get("State", "Z")[:1] not in ("Z", "X")
        except HostReadError:
            # That cannot be known now: it has ended when /proc says so.
            return True

    def _expire(self) -> None:
        with self._lock:
            left = self._collection.expire()
            self._expiry_armed = left is not None
        if left is not None:
            self._reactor.later(left, self._expire)

    # With the lock held.

    def _end(self, container_id: str) -> None:
        init = self._inits.pop(container_id)
        if init.pidfd >= 0:
            self._reactor.unwatch(init.pidfd)
            os.close(init.pidfd)
        self._remove(container_id, init.claim.speaker)

    def _remove(self, container_id: str, speaker: Speaker, generation: int = 0) -> None:
        self._collection.remove(container_id, generation)
        self._ended(container_id, speaker)
        if not self._expiry_armed:
            self._expiry_armed = True
            self._reactor.soon(self._expire)
