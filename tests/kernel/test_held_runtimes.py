"""Which executions of a runtime wait, and for what: each for its own container."""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.other_user import other_user
from support.waiting import deadline, wait_for

from ig_py.containers.exec_hold import RuntimeExecHold
from ig_py.containers.targets import Awaited
from ig_py.host.executing import MAX_ARGUMENT, MAX_ARGUMENTS
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor

pytestmark = [
    pytest.mark.needs("root", "busybox", "hold"),
    pytest.mark.any_kernel,
    pytest.mark.timeout(60),
]


class Barrier:
    """What the executions wait for; *released*: containers that are attached to at once."""

    def __init__(self) -> None:
        self.asked: list[tuple[Awaited, Callable[[], None]]] = []
        self.released: set[str | None] = set()

    def __call__(self, awaited: Awaited, done: Callable[[], None]) -> None:
        self.asked.append((awaited, done))
        if awaited.container_id in self.released:
            done()

    @property
    def ids(self) -> list[str | None]:
        return [awaited.container_id for awaited, _ in self.asked]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    found = shutil.which("busybox")
    assert found is not None
    program = shutil.copy(found, str(tmp_path / "busybox"))
    monkeypatch.setenv("RUNTIME_PATH", program)
    return program


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor("hold")
    reactor.start()
    yield reactor
    reactor.stop()


@contextlib.contextmanager
def holding(reactor: Reactor, barrier: Barrier, seconds: float = 10) -> Iterator[RuntimeExecHold]:
    hold = RuntimeExecHold(HostView(), reactor, barrier, seconds)
    try:
        yield hold
    finally:
        hold.close()


def begin(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    """In a process that is there already: starting one waits until it has executed."""
    return subprocess.Popen(["sh", "-c", 'exec "$0" "$@"', program, "true", *arguments])


def run(program: str, *arguments: str) -> None:
    with begin(program, *arguments) as process:
        assert process.wait(deadline(20)) == 0


def test_only_the_start_of_a_container_waits(program: str, reactor: Reactor) -> None:
    barrier = Barrier()
    with holding(reactor, barrier):
        for command in ("create", "run", "state", "delete"):
            run(program, "--root", "/x", command, "--bundle", "/y", "web")
        run(program, "start", "-h")
        assert barrier.ids == []
        barrier.released.add("web")
        run(program, "--root", "/x", "--log-format", "json", "start", "web")
    assert barrier.ids == ["web"]


def test_no_container_waits_for_another_one(
    program: str, reactor: Reactor, caplog: pytest.LogCaptureFixture
) -> None:
    barrier = Barrier()
    barrier.released.add("quick")
    with holding(reactor, barrier) as hold, begin(program, "start", "stuck") as stuck:
        wait_for(lambda: barrier.ids == ["stuck"], "it waits", 10)
        for _ in range(5):
            run(program, "start", "quick")
        assert stuck.poll() is None
        barrier.asked[0][1]()
        assert stuck.wait(deadline(10)) == 0
        assert ", 0 to the deadline; 0 not held" in hold.account()
    assert "wait" not in caplog.text


def test_a_container_that_starts_too_early_is_told(
    program: str, reactor: Reactor, caplog: pytest.LogCaptureFixture
) -> None:
    with holding(reactor, Barrier(), 0.2) as hold:
        run(program, "start", "stuck")
        wait_for(lambda: "container 'stuck' starts before" in caplog.text, "it is told", 10)
        assert ", 1 to the deadline; 0 not held" in hold.account()
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(told) == 2, told
    assert "that takes longer than 0.2 s (--hold-timeout)" in told[0]
    assert "1 of 1 executions of container runtimes did not wait" in told[1]


def test_a_tracer_that_hangs_holds_no_runtime_for_long(program: str, reactor: Reactor) -> None:
    go = threading.Event()
    with holding(reactor, Barrier()) as hold:
        reactor.soon(lambda: print(go.wait(deadline(20))))
        run(program, "start", "web")
        assert ", 1 to the deadline" in hold.account()
        go.set()


def test_arguments_of_other_users_count(
    program: str, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = Barrier()
    barrier.released.add("theirs")
    with other_user() as user:
        theirs = shutil.copy(program, user.runtime / "busybox")
        monkeypatch.setenv("RUNTIME_PATH", str(theirs))
        with holding(reactor, barrier):
            user.run(f"exec {theirs} true start theirs")
            run(str(theirs), "start", "theirs")
    assert [awaited for awaited, _ in barrier.asked] == [
        Awaited("theirs", of_root=False),
        Awaited("theirs", of_root=True),
    ]


def test_users_whose_containers_wait_leave_root_held(
    program: str,
    reactor: Reactor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The exec hold loses patience with a tracer that lets deadlines pass."""
    barrier = Barrier()
    with other_user() as user:
        theirs = shutil.copy(program, user.runtime / "busybox")
        monkeypatch.setenv("RUNTIME_PATH", str(theirs))
        with holding(reactor, barrier, 1) as hold:
            for _ in range(4):
                user.run(f"exec {theirs} true start stuck")
            with begin(str(theirs), "start", "web") as root:
                wait_for(lambda: barrier.ids[4:] == ["web"], "it waits", 10)
                barrier.asked[4][1]()
                assert root.wait(deadline(10)) == 0
            assert ", 0 to the deadline; 0 not held" in hold.account()
    assert "4 of 5 executions of container runtimes did not wait" in caplog.text


def test_long_arguments_are_read_with_a_bound(program: str, reactor: Reactor) -> None:
    barrier = Barrier()
    barrier.released |= {"web", "a" * MAX_ARGUMENT}
    with holding(reactor, barrier):
        run(program, "start", "x" * (1 << 16), "web")
        run(program, *["x"] * MAX_ARGUMENTS, "start", "far")
    assert barrier.ids == ["web"]
