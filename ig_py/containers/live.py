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
from ig_py.containers.model import Container
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


class LiveContainers:
    """Thread-safe; *lock* is the discovery's. *ended* is called with an id, with the lock held."""

    def __init__(
        self,
        view: HostView,
        reactor: Reactor,
        collection: ContainerCollection,
        lock: threading.RLock,
        ended: Callable[[str], None],
    ) -> None:
        self._view = view
        self._reactor = reactor
        self._collection = collection
        self._lock = lock
        self._ended = ended
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

    def add(self, container: Container, process: Process, *, named: bool) -> bool:
        """Take in a container and the ownership of its init's *process*; False when it is in
        already, or the collection refuses it. *named*: see :class:`Event`."""
        with self._lock:
            known = self.current(container.id)
            # A container that was added without its namespaces is added again with them.
            same = known is not None and (known.mntns or not container.mntns)
            if same or self._had(container):
                process.close()
                return False
            if container.id in self._inits:
                self._end(container.id)
            if not self._collection.add(container, process.pins, named=named):
                process.close()
                return False
            pidfd = process.pidfd
            self._inits[container.id] = _Init(pidfd, bool(process.mntns))
            if pidfd >= 0:
                self._reactor.watch(pidfd, lambda: self._exited(container.id, pidfd))
            return True

    def add_ended(self, container: Container, generation: int, *, named: bool) -> bool:
        """Take in a container whose processes have all ended, so that its events are named;
        False when another one of its id runs. *generation*: of its mount namespace."""
        with self._lock:
            if container.id in self._inits or not self._collection.add(
                container, generation=generation, named=named
            ):
                return False
            self._remove(container.id, generation)
            return True

    def died(self, container_id: str) -> None:
        """An engine says that its init ended."""
        with self._lock:
            init = self._inits.get(container_id)
            # The engine may mean an earlier init of a container that was restarted since.
            if init and (init.pidfd < 0 or not alive(init.pidfd)):
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
        if self._inits[container.id].readable:
            return self._view.namespace(pid, "mnt") == container.mntns
        return self._view.status(pid).get("State", "Z")[:1] not in ("Z", "X")

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
        self._remove(container_id)

    def _remove(self, container_id: str, generation: int = 0) -> None:
        self._collection.remove(container_id, generation)
        self._ended(container_id)
        if not self._expiry_armed:
            self._expiry_armed = True
            self._reactor.soon(self._expire)
