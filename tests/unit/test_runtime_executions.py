"""Executions of runtimes as a second opinion, and what is held by them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.fake_proc import FakeHost

from ig_py._core import CoreError
from ig_py.containers import exec_hold
from ig_py.containers import runtime_executions as module
from ig_py.containers.collection import Event, EventType
from ig_py.containers.exec_hold import RuntimeExecHold
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.containers.runtime_executions import RuntimeExecutions
from ig_py.containers.runtime_paths import VARIABLE, runtime_paths
from ig_py.containers.speakers import speaker_of_user
from ig_py.containers.targets import Awaited
from ig_py.errors import ContainerError
from ig_py.host.proc import HostView

LATER = 10**12
"""Ticks since the machine began."""


class Clock:
    """A reactor whose callbacks run when the test says so."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.watched: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self.watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.timers.append((seconds, callback))

    def soon(self, callback: Callable[[], None]) -> None:
        self.later(0, callback)

    def pass_time(self, seconds: float) -> None:
        """All that is due by then, and what that makes due."""
        while due := [t for t in self.timers if t[0] <= seconds]:
            self.timers = [t for t in self.timers if t[0] > seconds]
            for _, callback in due:
                callback()


class Executions:
    """In place of the core's ExecWatch."""

    def __init__(self, paths: list[str]) -> None:
        self.marked = paths
        self.pids: list[int] = []

    def fileno(self) -> int:
        return 5

    def read(self) -> list[int]:
        pids, self.pids = self.pids, []
        return pids


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    monkeypatch.delenv(VARIABLE, raising=False)
    core = SimpleNamespace(ExecWatch=Executions)
    monkeypatch.setitem(sys.modules, "ig_py._core", core)
    host = FakeHost(tmp_path)
    # Pids of this /proc.
    (tmp_path / "proc/self/status").write_text("NSpid:\t7\n")
    host.write("usr/sbin/runc", "")
    host.write("usr/bin/crun", "")
    return host


class Watched:
    def __init__(self, host: FakeHost) -> None:
        self.host, self.pids = host, itertools.count(100)
        self.clock = Clock()
        self.executions = RuntimeExecutions(HostView(str(host.root)), self.clock)  # type: ignore[arg-type]
        self.executions.start()

    def executed(self, *pids: int) -> None:
        watch = self.executions._watch
        assert isinstance(watch, Executions)
        watch.pids += pids
        self.clock.watched[5]()

    def came(self, container_id: str, *, early: bool = False) -> None:
        pid = next(self.pids)
        self.host.process(pid, start=0 if early else LATER)
        info = RuntimeInfo(container_id=container_id, pid=pid)
        self.executions.changed(Event(EventType.CREATED, Container(runtime=info)))
        self.clock.pass_time(module.COMPARE_SECONDS)


def test_paths_are_those_that_are_there(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    view = HostView(str(host.root))
    below = [f"{host.root}/{name}" for name in ("usr/sbin/runc", "usr/bin/crun")]
    assert runtime_paths(view) == below
    (host.root / "usr/bin/runc").symlink_to("/usr/sbin/runc")
    assert sorted(runtime_paths(view)) == sorted(below), "one file, two names"
    monkeypatch.setenv(VARIABLE, "/usr/bin/crun:/nowhere/runc")
    assert runtime_paths(view) == [below[1]]


def test_a_container_begun_by_a_runtime_is_expected(host: FakeHost) -> None:
    watched = Watched(host)
    assert watched.executions.status() == (
        True,
        f"{host.root}/usr/sbin/runc, {host.root}/usr/bin/crun",
    )
    host.process(8, words=("runc", "--root", "/r", "create", "--bundle", "/b", "c1"))
    host.process(9, words=("crun", "state", "c1"))
    watched.executed(8, 9, 0, -1)
    watched.came("c1")
    assert (watched.executions.runtime_not_seen, watched.executions.begun_only) == (0, 0)
    watched.clock.pass_time(module.BEGUN_SECONDS)
    assert (watched.executions.runtime_not_seen, watched.executions.begun_only) == (0, 0)


def test_a_new_command_line_may_take_a_moment(host: FakeHost) -> None:
    watched = Watched(host)
    host.process(8, words=("containerd-shim-runc-v2", "-id", "c1"))
    watched.executed(8)
    (host.root / "proc/8/cmdline").write_bytes(b"runc\0create\0--bundle\0/b\0c1\0")
    watched.clock.pass_time(1)
    watched.came("c1")
    assert watched.executions.runtime_not_seen == 0
    host.process(9, words=("stays-as-it-is",))
    watched.executed(9)
    watched.clock.pass_time(1)
    assert not [t for t in watched.clock.timers if t[0] < 1], "it is not looked at for ever"


def test_disagreements_are_counted(host: FakeHost) -> None:
    watched = Watched(host)
    watched.came("of-another-runtime")
    watched.came("from-before", early=True)
    host.process(8, words=("runc", "create", "--bundle", "/b", "failed"))
    watched.executed(8, 8)
    watched.clock.pass_time(module.BEGUN_SECONDS)
    assert (watched.executions.runtime_not_seen, watched.executions.begun_only) == (1, 1)


def test_a_container_that_came_first_and_ended_at_once_agrees(host: FakeHost) -> None:
    watched = Watched(host)
    info = RuntimeInfo(container_id="c1", pid=99)
    watched.executions.changed(Event(EventType.CREATED, Container(runtime=info)))
    watched.clock.pass_time(0)
    host.process(8, words=("runc", "run", "--bundle", "/b", "c1"))
    watched.executed(8)
    watched.clock.pass_time(module.BEGUN_SECONDS)
    assert (watched.executions.runtime_not_seen, watched.executions.begun_only) == (0, 0)


def test_without_fanotify_the_others_go_on(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_paths: list[str]) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setitem(sys.modules, "ig_py._core", SimpleNamespace(ExecWatch=refuse))
    active, why = Watched(host).executions.status()
    assert not active and "not permitted" in why


class FakeExecHold:
    def __init__(self, paths: list[str], seconds: float) -> None:
        if seconds < 0:
            raise CoreError("unsupported", "fanotify: no", "")
        self.marked, self.waiting, self.released = paths, [(1, 8), (2, 9)], list[int]()
        self.taken: list[int] = []
        self.ended = self.closed = False

    def fileno(self) -> int:
        return 6

    def requests(self) -> list[tuple[int, int]]:
        if self.ended:
            raise CoreError("closed", "no process answers", "")
        waiting, self.waiting = self.waiting, []
        return waiting

    def take(self, serial: int) -> None:
        self.taken.append(serial)

    def release(self, serial: int) -> None:
        self.released.append(serial)

    def counts(self) -> dict[str, int]:
        return {
            "released": 1, "expired": 1, "passed": 3, "waited": 102_000_000, "longest": 100_000_000,
        }  # fmt: skip

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def holds(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> HostView:
    core = SimpleNamespace(ExecHold=FakeExecHold, CoreError=CoreError)
    monkeypatch.setitem(sys.modules, "ig_py._core", core)
    return HostView(str(host.root))


def test_each_is_released_when_the_barrier_says_so(
    holds: HostView, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(HostView, "same_pidns", False)
    clock, behind, all_awaited = Clock(), list[Callable[[], None]](), list[Awaited]()

    def ready(awaited: Awaited, done: Callable[[], None]) -> None:
        all_awaited.append(awaited)
        behind.append(done)

    held = RuntimeExecHold(holds, clock, ready)  # type: ignore[arg-type]
    clock.watched[6]()
    hold = held._hold
    assert isinstance(hold, FakeExecHold)
    assert (hold.taken, hold.released) == ([1, 2], [])
    behind.pop()()
    behind.pop()()
    assert hold.released == [2, 1]
    # Processes of another pid namespace tell nothing: they may be root's.
    assert all_awaited == [Awaited(None, of_root=True)] * 2
    assert held.account() == (
        "2 runtimes held (51.0 ms in the mean, 100.0 ms at most), 1 to the deadline; 3 not held"
    )
    hold.ended = True
    clock.watched[6]()
    assert clock.watched == {}
    assert "not held any more" in caplog.text
    held.close()
    assert hold.closed


def test_users_leave_room_for_executions_of_root(
    holds: HostView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_hold, "MAX_HELD_OF_USERS", 6)
    users = iter([7] * 9 + [8] * 9 + [0] * 9)
    monkeypatch.setattr(exec_hold, "credentials", lambda _proc, _pid: next(users))
    monkeypatch.setattr(exec_hold, "speaker_of_process", speaker_of_user)
    monkeypatch.setattr(exec_hold, "arguments_to_execute", lambda _proc, _pid: ["runc"])
    monkeypatch.setattr(exec_hold, "started_by", lambda _words: "x" * 64)
    clock = Clock()
    monkeypatch.setattr(
        exec_hold.threading, "Thread", lambda target, **_: SimpleNamespace(start=target)
    )
    held = RuntimeExecHold(holds, clock, lambda *_: None)  # type: ignore[arg-type]
    hold = held._hold
    assert isinstance(hold, FakeExecHold)
    for serial in range(1, 28):
        hold.waiting = [(serial, 1000 + serial)]
        clock.watched[6]()
        clock.pass_time(0)
    assert hold.taken == [1, 2, 3, 4, 10, 11, *range(19, 28)]
    assert hold.released == [*range(5, 10), *range(12, 19)]


def test_what_users_keep_waiting_goes_on_before_the_deadline(
    holds: HostView, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The exec hold would count it as a sign that the tracer hangs, and hold nothing of root's."""
    monkeypatch.setattr(exec_hold, "credentials", lambda _proc, pid: pid)
    monkeypatch.setattr(exec_hold, "speaker_of_process", speaker_of_user)
    monkeypatch.setattr(exec_hold, "arguments_to_execute", lambda _proc, _pid: ["runc"])
    monkeypatch.setattr(exec_hold, "started_by", lambda _words: "stuck")
    reading: list[Callable[[], None]] = []
    monkeypatch.setattr(
        exec_hold.threading,
        "Thread",
        lambda target, **_: SimpleNamespace(start=lambda: reading.append(target)),
    )
    clock = Clock()
    held = RuntimeExecHold(holds, clock, lambda *_: None)  # type: ignore[arg-type]
    hold = held._hold
    assert isinstance(hold, FakeExecHold)
    hold.waiting = [(1, 1000), (2, 1000), (3, 0)]
    clock.watched[6]()
    reading.pop()()
    clock.pass_time(0)
    assert (hold.taken, hold.released) == ([3, 2], [])
    clock.pass_time(exec_hold.USER_READ_SECONDS)
    assert hold.released == [1], "its arguments have not been read"
    reading.pop()()
    clock.pass_time(exec_hold.USER_PART * exec_hold.MAX_SECONDS)
    assert (hold.taken, hold.released) == ([3, 2], [1, 2]), "its container is not attached to"
    assert "that takes longer than 7.5 s (for users 0.75 of --hold-timeout)" in caplog.text
    held.close()
    assert "did not wait until programs were attached" in caplog.text


def test_a_runtime_that_cannot_be_held_is_an_error(holds: HostView, tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="fanotify: no"):
        RuntimeExecHold(holds, Clock(), lambda *_: None, -1)  # type: ignore[arg-type]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ContainerError, match="no runtime") as caught:
        RuntimeExecHold(HostView(str(tmp_path / "empty")), Clock(), lambda *_: None)  # type: ignore[arg-type]
    assert VARIABLE in str(caught.value.remedy)
