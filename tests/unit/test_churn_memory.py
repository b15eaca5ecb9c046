"""Memory while containers come and go: of one that has ended nothing stays, or what is bounded by a
constant. Time is pretended, so that thousands of them take seconds."""

from __future__ import annotations

import gc
import heapq
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from ig_py.containers import admission as admission_module
from ig_py.containers import discovery as discovery_module
from ig_py.containers.admission import Admission
from ig_py.containers.collection import ContainerCollection
from ig_py.containers.discovery import Discovery
from ig_py.containers.engines import unmanaged
from ig_py.containers.engines.creation import Creation
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.containers.runtime_state import State
from ig_py.containers.scout import Kind
from ig_py.containers.selector import Selector
from ig_py.containers.speakers import ROOT
from ig_py.containers.stream_sync import StreamSync
from ig_py.host.proc import Cgroups, HostView, Pins, Process

CYCLES = 4_000
SECONDS_BETWEEN = 0.05
NUMBERS = 50
"""Inode numbers of mount namespaces: the kernel gives the lowest that is free."""
MOST_BYTES = 2.0
"""A container may add, over the last half of the cycles."""
BORN = 7


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class PretendedReactor:
    """Without a thread: timers run when the test says so."""

    clock = Clock()

    def __init__(self, _name: str = "") -> None:
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.readers: dict[int, Callable[[], None]] = {}
        self._serial = count()

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self.readers[fd] = callback

    def unwatch(self, fd: int) -> None:
        self.readers.pop(fd, None)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (self.clock.now + seconds, next(self._serial), callback))

    def soon(self, callback: Callable[[], None]) -> None:
        self.later(0, callback)

    def run(self) -> None:
        while self.timers and self.timers[0][0] <= self.clock.now:
            heapq.heappop(self.timers)[2]()


class PretendedHost(HostView):
    """A process is a descriptor that is readable once it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.mntns: dict[int, int] = {}
        self._alive: dict[int, int] = {}

    def begin(self, pid: int, mntns: int) -> None:
        self.mntns[pid] = mntns
        self._alive[pid] = os.eventfd(0)

    def end(self, pid: int) -> None:
        del self.mntns[pid]
        fd = self._alive.pop(pid)
        os.eventfd_write(fd, 1)
        os.close(fd)

    def open(self, pid: int, born: int = 0) -> Process:
        fd = os.dup(self._alive[pid])
        groups = Cgroups("", "/c", "0::/c")
        return Process(pid, fd, Pins(), self.mntns[pid], 5, 1, groups, born=BORN)

    def born(self, pid: int) -> int:
        return BORN

    def read(self, pid: int, name: str) -> str:
        return ""

    def status(self, pid: int) -> dict[str, str]:
        return {}

    def namespace(self, pid: int, kind: str) -> int | None:
        return 1

    def cgroups(self, pid: int) -> Cgroups:
        return Cgroups()

    def owner_of(self, pid: int) -> int | None:
        return None

    def cgroup_maker(self, path: str) -> int:
        return 0


class Nothing:
    """A stream, a filter map, a scout: what is done to them leaves no trace."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_keys: None


@dataclass
class Notice:
    generation: int
    kind: int
    pid: int
    mntns: int
    comm: bytes
    cgroup: bytes
    order: int
    flags: int = 0
    nspid: int = 1
    ppid: int = 100
    cgroup_id: int = 1
    owner: int | None = None


class Churn:
    """Containers that run one after the other, told of by every source."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._host = PretendedHost()
        collection = ContainerCollection(clock=clock)
        self._discovery = Discovery([], self._host, collection, unmanaged=True)
        self._reactor: Any = self._discovery.reactor
        self._scout = PretendedReactor()
        self._admission = Admission(self._host, self._discovery)
        nothing: Any = Nothing(map=None)
        sync = StreamSync(nothing, nothing, Selector(), self._admission)
        self._admission.begin()
        self._admission.subscribe(sync)
        executions = self._discovery.executions
        collection.subscribe(executions, executions.changed)
        collection.subscribe(sync, sync)
        collection.subscribe(self._admission, self._admission.changed)
        self._discovery.on_described(self._admission.described)
        self.seen = 0
        collection.subscribe("test", self._count)
        self._order = count(1)

    def _count(self, event: Any) -> None:
        self.seen += event.type.value == "DELETED"

    def cycle(self, number: int) -> None:
        container_id, pid = f"{number:064x}", 2000 + number % 30_000
        mntns, cgroup = (1 << 33) + number % NUMBERS, f"/docker/{container_id}".encode()
        by_engine = number % 2

        def tell(kind: Kind, comm: bytes) -> None:
            order = next(self._order)
            notice = Notice(number + 1, kind, pid, mntns, comm, cgroup, order)
            self._admission._notice(notice)  # type: ignore[arg-type]

        self._host.begin(pid, mntns)
        self._discovery.executions._begin(container_id)
        self._discovery.unmanaged.creating(container_id, "runc", ROOT)
        if by_engine:
            info = RuntimeInfo("docker", container_id, f"c{number}")
            self._discovery.describe(Container(runtime=info))
        tell(Kind.NEW, b"runc:[2:INIT]")
        self._discovery.unmanaged.created(container_id, "runc", State(pid, BORN, "/b"), ROOT)
        tell(Kind.EXEC, b"sh")
        self._run()
        self._host.end(pid)
        for exited in list(self._reactor.readers.values()):
            exited()
        tell(Kind.EXIT, b"sh")
        if by_engine:
            self._discovery.forget(container_id)
        self._run()
        self._clock.now += SECONDS_BETWEEN

    def _run(self) -> None:
        self._scout.run()
        self._reactor.run()

    @property
    def scout(self) -> PretendedReactor:
        return self._scout


@pytest.fixture
def churn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Churn]:
    clock = Clock()
    made: list[Churn] = []
    monkeypatch.setattr(PretendedReactor, "clock", clock)
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(discovery_module, "Reactor", PretendedReactor)
    monkeypatch.setattr(unmanaged, "creation_of", lambda *_: Creation("runc", "", "/bundle"))

    def acquire(_view: object, _listener: object) -> Any:
        class Scout(Nothing):
            @property
            def reactor(self) -> PretendedReactor:
                return made[0].scout

        return Scout()

    monkeypatch.setattr(admission_module, "acquire", acquire)
    churn = Churn.__new__(Churn)
    made.append(churn)
    churn.__init__(clock)  # type: ignore[misc]
    yield churn


def test_memory_is_flat_once_the_caches_are_full(churn: Churn) -> None:
    gc.collect()
    tracemalloc.start(1)
    try:
        for number in range(CYCLES // 2):
            churn.cycle(number)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(CYCLES // 2, CYCLES):
            churn.cycle(number)
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - before) / (CYCLES // 2)
    finally:
        tracemalloc.stop()
    assert churn.seen == CYCLES
    assert each < MOST_BYTES


def test_what_is_kept_of_a_container_makes_no_cycles(churn: Churn) -> None:
    """The garbage collector runs rarely: what waits for it would be a slow growth."""
    for number in range(1000):
        churn.cycle(number)
    gc.collect()
    gc.disable()
    try:
        for number in range(1000, 1300):
            churn.cycle(number)
        assert gc.collect() < 100
    finally:
        gc.enable()
