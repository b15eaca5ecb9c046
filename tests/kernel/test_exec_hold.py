"""A process that executes a held file waits until the deadline at most, even if the tracer dies."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import fanotify
from support.tracer import children
from support.waiting import deadline, wait_for

from ig_py._core import CoreError, ExecHold, ExecWatch

pytestmark = [
    pytest.mark.needs("root", "busybox", "hold"),
    pytest.mark.any_kernel,
    pytest.mark.timeout(60),
]

DEADLINE = 0.1


@pytest.fixture
def program(tmp_path: Path) -> str:
    found = shutil.which("busybox")
    assert found is not None
    return shutil.copy(found, str(tmp_path / "busybox"))


@pytest.fixture
def hold(program: str) -> Iterator[ExecHold]:
    made = ExecHold([program, f"{program}-that-is-not-there"], DEADLINE)
    yield made
    made.close()


def begin(program: str) -> subprocess.Popen[bytes]:
    """In a process that is there already: starting one waits until it has executed."""
    return subprocess.Popen(["sh", "-c", 'exec "$0" true', program])


def execute(program: str) -> float:
    begun = time.monotonic()
    with begin(program) as process:
        assert process.wait(deadline(30)) == 0
    return time.monotonic() - begun


def requests(hold: ExecHold) -> list[tuple[int, int]]:
    select.select([hold.fileno()], [], [], deadline(10))
    return hold.requests()


def released_at_once(hold: ExecHold, program: str) -> bool:
    with begin(program) as process:
        ((serial, pid),) = requests(hold)
        hold.release(serial)
        assert pid == process.pid
        assert process.wait(deadline(10)) == 0
    return hold.counts()["released"] > 0


def test_a_file_that_cannot_be_marked_leaves_no_process(program: str) -> None:
    before = children(os.getpid())
    with pytest.raises(CoreError, match="marking"):
        ExecHold([program, f"{program}/inside-of-a-file"], DEADLINE)
    assert children(os.getpid()) == before
    assert execute(program) < deadline(DEADLINE)


def test_an_execution_waits_until_it_is_released(hold: ExecHold, program: str) -> None:
    assert hold.marked == [program]
    # A busy machine may take longer than the deadline.
    wait_for(lambda: released_at_once(hold, program), "it is released", 10)
    counts = hold.counts()
    assert counts["waited"] >= counts["longest"] > 0
    assert counts["passed"] == 0


def test_no_process_waits_beyond_the_deadline(hold: ExecHold, program: str) -> None:
    times = [execute(program) for _ in range(5)]
    assert min(times[:3]) >= DEADLINE and max(times) < deadline(1)
    # After three timeouts in a row a process is no longer held that does not answer.
    counts = hold.counts()
    assert (counts["released"], counts["expired"], counts["passed"]) == (0, 3, 2)
    hold.release(requests(hold)[0][0])
    wait_for(lambda: execute(program) >= DEADLINE, "it is waited for again", 10)


def test_other_files_are_not_held(hold: ExecHold, program: str) -> None:
    execute(shutil.copy(program, f"{program}-copy"))
    assert hold.requests() == []


def test_a_replaced_runtime_is_marked_again(hold: ExecHold, program: str) -> None:
    copy = shutil.copy(program, f"{program}-new")
    Path(copy).replace(program)
    hold.mark(program)
    wait_for(lambda: execute(program) and hold.requests(), "it is held", 10)


def test_the_answering_process_inherits_no_descriptors(hold: ExecHold) -> None:
    wait_for(lambda: fanotify.descriptors(hold.pid) == 5, "only its own descriptors", 10)
    assert fanotify.named(hold.pid) == "ig-exec-hold"
    assert os.getsid(hold.pid) == hold.pid
    assert fanotify.groups(hold.pid) == {"4": 1}
    assert fanotify.groups(os.getpid()) == {}


def test_a_stopped_answering_process_is_killed(hold: ExecHold, program: str) -> None:
    execute(program)
    os.kill(hold.pid, signal.SIGSTOP)
    execute(program)
    with pytest.raises(CoreError):
        wait_for(lambda: requests(hold) and False, "closed", 10)
    assert execute(program) < deadline(1)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_stopped_or_killed_tracer_holds_no_process(program: str, number: int) -> None:
    code = (
        "import sys, time; from ig_py._core import ExecHold; hold = ExecHold([sys.argv[1]], 0.1);"
        " print(hold.pid, flush=True); time.sleep(1000)"
    )
    # The checkout, which is found first otherwise, may have no core.
    argv = [sys.executable, "-P", "-c", code, program]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as tracer:
        try:
            assert tracer.stdout is not None
            keeper = int(tracer.stdout.readline())
            tracer.send_signal(number)
            for _ in range(6):
                assert execute(program) < deadline(1)
        finally:
            tracer.kill()
            tracer.wait()
    wait_for(lambda: not Path(f"/proc/{keeper}/fd/4").exists(), "it has ended, too", 10)


def test_closing_releases_held_processes(hold: ExecHold, program: str) -> None:
    with begin(program) as process:
        requests(hold)
        keeper = hold.pid
        hold.close()
        # A process released only by the deadline would wait for this one.
        assert not Path(f"/proc/{keeper}").exists()
        hold.close()
        assert process.wait(deadline(10)) == 0
    assert (hold.pid, hold.fileno()) == (0, -1)
    with pytest.raises(CoreError):
        hold.requests()


def test_a_watch_reports_executions_afterwards(program: str) -> None:
    watch = ExecWatch([program, "/no/such/file"])
    assert watch.marked == [program]
    assert watch.read() == []
    with begin(program) as process:
        process.wait(deadline(10))
    assert set(watch.read()) == {process.pid}
