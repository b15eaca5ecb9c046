"""New mount namespaces that nothing is decided about yet, as the kernel's scout tells of them.

A namespace is known by its generation (docs/discovery.md): its inode number may be given to a
later namespace while it is still pending.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ig_py.containers.identify import Found
from ig_py.containers.model import Container
from ig_py.containers.scout import PLACED, SHUT, Kind
from ig_py.containers.targets import Awaited
from ig_py.records import dataclass, field

if TYPE_CHECKING:
    from ig_py._core import ScoutNotice

MAX_ORDERS = 16384
"""Inode numbers of which it is remembered when the last namespace was reported."""
MAX_PROCESSES = 64
"""Processes of one pending namespace that are followed (the kernel tells of no more)."""


@dataclass
class PendingNamespace:
    """One namespace, and what is known of its processes. ``pid``, ``ppid``: of the process that
    made it; ``comm`` and ``cgroup``: as the kernel told last; ``first_cgroup``: when it began;
    ``placed``: its first process is in another cgroup than its parent; ``init``: 0 until known."""

    mntns: int
    generation: int
    pid: int
    ppid: int
    comm: str
    cgroup: str
    first_cgroup: str
    placed: bool
    late: bool = False
    """Its events do not pass filter maps before it is decided about: its first ones are missed."""
    order: int = 0
    """Of its first notice (``ScoutNotice.order``)."""
    owner: int | None = None
    """The user who made it, in a user namespace of their own; None: the host's root."""
    init: int = 0
    executed: bool = False
    found: Found | None = None
    by_files: Container | None = None
    """What its processes and files tell of the container, where no engine has described it."""
    sandbox: bool = False
    contradicted: bool = False
    """What it is said to be is another container: its events are lost."""
    unread: bool = False
    """The host could not be read when it was to be identified: its events are lost unless a later
    look succeeds."""
    processes: set[int] = field(default_factory=set)

    @classmethod
    def from_notice(cls, notice: ScoutNotice) -> PendingNamespace:
        """The namespace that a notice of kind NEW reports."""
        cgroup = os.fsdecode(notice.cgroup)
        return cls(
            notice.mntns,
            notice.generation,
            notice.pid,
            notice.ppid,
            os.fsdecode(notice.comm),
            cgroup,
            cgroup,
            bool(notice.flags & PLACED),
            late=bool(notice.flags & SHUT),
            order=notice.order,
            owner=notice.owner,
            init=notice.pid if notice.nspid == 1 else 0,
            processes={notice.pid},
        )

    def heed(self, notice: ScoutNotice) -> None:
        """Take over what a notice of kind FORK, EXEC or MOVED tells."""
        if len(self.processes) < MAX_PROCESSES:
            self.processes.add(notice.pid)
        if notice.kind in (Kind.EXEC, Kind.MOVED):
            self.cgroup = os.fsdecode(notice.cgroup)
            self.comm = os.fsdecode(notice.comm)
        self.executed |= notice.kind == Kind.EXEC
        if not self.init and (notice.nspid == 1 or notice.kind == Kind.EXEC):
            self.init = notice.pid

    @property
    def moved(self) -> bool:
        """Whether its cgroup is its own. A service that executes a runtime is in a cgroup of its
        own, too: ``placed`` says nothing any more once a program was executed."""
        return self.cgroup != self.first_cgroup or (self.placed and not self.executed)


class PendingNamespaces:
    """All of them. Not thread-safe, :meth:`latest` excepted."""

    def __init__(self) -> None:
        self._by_generation: dict[int, PendingNamespace] = {}
        self._latest: dict[int, PendingNamespace] = {}
        self._orders: dict[int, int] = {}
        self._barriers: list[tuple[set[int], Callable[[], None]]] = []

    def add(self, pending: PendingNamespace) -> PendingNamespace | None:
        """Returns the earlier pending namespace with this inode number, which has ended, if any."""
        before = self._latest.get(pending.mntns)
        while len(self._orders) >= MAX_ORDERS:
            del self._orders[next(iter(self._orders))]
        self._orders[pending.mntns] = pending.order
        self._by_generation[pending.generation] = self._latest[pending.mntns] = pending
        return before

    def is_superseded(self, pending: PendingNamespace) -> bool:
        """Whether a later namespace of its inode number has been added before."""
        return self._orders.get(pending.mntns, 0) > pending.order

    def get(self, generation: int) -> PendingNamespace | None:
        return self._by_generation.get(generation)

    def latest(self, mntns: int) -> PendingNamespace | None:
        """The pending namespace that has the inode number now; any thread."""
        return self._latest.get(mntns)

    def __contains__(self, pending: PendingNamespace) -> bool:
        return pending.generation in self._by_generation

    def of_container(self, container_id: str) -> list[PendingNamespace]:
        """The pending namespaces that were identified as that container's."""
        return [
            pending
            for pending in self._by_generation.values()
            if pending.found and pending.found.container_id == container_id
        ]

    def remove(self, pending: PendingNamespace) -> list[Callable[[], None]]:
        """It is decided about. Returns the callbacks of :meth:`when_decided` that are due now."""
        self._by_generation.pop(pending.generation, None)
        if self._latest.get(pending.mntns) is pending:
            del self._latest[pending.mntns]
        for generations, _ in self._barriers:
            generations.discard(pending.generation)
        due = [done for generations, done in self._barriers if not generations]
        self._barriers = [barrier for barrier in self._barriers if barrier[0]]
        return due

    def when_decided(self, awaited: Awaited, done: Callable[[], None]) -> None:
        """Call *done* once the pending namespaces of these containers are decided about, as far as
        that is possible before they execute a program: those whose init is known."""
        generations = {
            pending.generation
            for pending in self._by_generation.values()
            if pending.found is not None
            and awaited.includes(pending.found.container_id, pending.owner)
            and pending.init
            and not pending.sandbox
        }
        if generations:
            self._barriers.append((generations, done))
        else:
            done()
