"""One run's life, and how it ends, on a core without a kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from support.fake_core import Batch, CoreError, Fake, install

from ig_py.errors import KernelError, UsageError
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, GadgetSpec, ProgramSpec
from ig_py.host.latch import Latch
from ig_py.operators.base import Context, Operator
from ig_py.operators.parts import LoadParts
from ig_py.operators.running import Host, Running
from ig_py.runtime import run as run_module
from ig_py.runtime.prepare import Prepared
from ig_py.runtime.run import Run, RunSettings
from ig_py.runtime.state import SignalGuard, State, Stopped, StopRequest, wait_any
from ig_py.runtime.supervise import supervise


class Recorder(Operator):
    """Writes its life into the fake's log."""

    priority = 0

    def __init__(self, name: str, fake: Fake) -> None:
        self.label, self._fake = name, fake

    def pre_start(self, ctx: Context, load: LoadParts, host: Host) -> None:
        self._fake.did(f"pre_start {self.label}")

    def start(self, ctx: Context, running: Running) -> None:
        assert running.stream is not None
        self._fake.did(f"start {self.label}")

    def pre_stop(self, running: Running) -> None:
        self._fake.did(f"pre_stop {self.label}")

    def stop(self) -> None:
        self._fake.did(f"stop {self.label}")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(run_module, "with_tracefs", lambda work: work())
    monkeypatch.setattr(run_module, "LONGEST_MS", 20)
    return install(monkeypatch, Fake(["p"]))


def job(fake: Fake, stop: StopRequest, sink: Callable[[Batch], None] | None = None,
        on_running: Callable[[], None] | None = None) -> Run:  # fmt: skip
    spec = GadgetSpec(
        "g",
        {},
        datasources=[DataSourceSpec("exec", DataSourceType.SINGLE, map="events")],
        programs=[ProgramSpec("p", "tracepoint/a/b")],
    )
    operators: list[Operator] = [Recorder("a", fake), Recorder("b", fake)]
    prepared = Prepared(spec, Context(spec), operators, b"elf", {})
    return Run(
        prepared,
        RunSettings(),
        stop,
        sink=sink or (lambda _batch: None),  # type: ignore[arg-type]
        warn=fake.log.append,
        on_running=on_running or stop.set,
    )


TEARDOWN = ["pre_stop b", "pre_stop a", "detach", "pump", "counters", "stop b", "stop a",
            "stream.close", "close"]  # fmt: skip


def test_the_order_of_a_life(fake: Fake) -> None:
    run = job(fake, StopRequest())
    counters = run.execute()
    assert counters["exec"]["emitted"] == 0
    assert run.state is State.CLOSED
    assert [x for x in fake.log if not x.startswith("probe")] == [
        "pre_start a", "pre_start b", "open", "load brief", "stream", "start a", "start b",
        "attach p", *TEARDOWN,
    ]  # fmt: skip
    assert fake.plans[0]["datasources"][0]["map"] == "events"


def test_events_reach_the_sink_also_those_left_at_the_end(fake: Fake) -> None:
    fake.batches = [[Batch("exec", b"1\n", 1)], [Batch("exec", b"2\n3\n", 2)]]
    stop, got = StopRequest(), []

    def sink(batch: Batch) -> None:
        got.append(batch.data)
        stop.set()

    counters = job(fake, stop, sink, on_running=lambda: None).execute()
    assert got == [b"1\n", b"2\n3\n"]
    assert counters["exec"]["emitted"] == 3


def test_a_stop_asked_for_before_the_start(fake: Fake) -> None:
    stop = StopRequest()
    stop.set()
    assert job(fake, stop).execute() == {}
    assert fake.log == []


@pytest.mark.parametrize(
    "at", ["pre_start a", "pre_start b", "open", "load", "stream", "start a", "start b", "attach"]
)
def test_a_failure_anywhere_releases_everything(fake: Fake, at: str) -> None:
    fake.fail[at] = CoreError("load", "no", "log")
    with pytest.raises(KernelError, match="no"):
        job(fake, StopRequest()).execute()
    assert fake.open_objects == 0
    entered = {x.split()[1] for x in fake.log if x.startswith("pre_start")}
    assert entered == {x.split()[1] for x in fake.log if x.startswith("stop")}
    assert ("stream.close" in fake.log) == ("stream" in fake.log and at != "stream")


@pytest.mark.parametrize("at", ["pre_start a", "load brief", "stream", "start b", "attach p"])
def test_a_stop_anywhere_releases_everything(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    stop, original = StopRequest(), fake.did

    def did(what: str) -> None:
        original(what)
        if what == at:
            stop.set()

    monkeypatch.setattr(fake, "did", did)
    job(fake, stop, on_running=lambda: None).execute()
    assert fake.open_objects == 0
    assert {"stop a"} <= set(fake.log)


@pytest.mark.parametrize("at", ["pre_stop b", "detach", "counters", "stop b", "stream.close"])
def test_a_failure_while_stopping_does_not_keep_the_rest(fake: Fake, at: str) -> None:
    fake.fail[at] = CoreError("closed", "gone", "")
    with pytest.raises(KernelError, match="gone"):
        job(fake, StopRequest()).execute()
    assert [x for x in fake.log if x in TEARDOWN] == TEARDOWN
    assert fake.open_objects == 0


def test_an_error_while_streaming(fake: Fake) -> None:
    fake.fail["pump"] = CoreError("map", "buffer is broken", "")
    with pytest.raises(KernelError, match="buffer is broken"):
        job(fake, StopRequest(), on_running=lambda: None).execute()
    assert fake.open_objects == 0


def test_draining_ends(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "DRAIN_SECONDS", 0.05)
    fake.batches = [[Batch("exec", b"x\n", 1)] for _ in range(100_000)]

    def slow(_batch: Batch) -> None:
        time.sleep(0.002)

    job(fake, StopRequest(), slow).execute()
    assert any("were still to be rendered" in line for line in fake.log)
    assert "give_up" in fake.log
    assert fake.open_objects == 0


def test_states_cannot_be_skipped(fake: Fake) -> None:
    run = job(fake, StopRequest())
    with pytest.raises(RuntimeError, match="from new to running"):
        run._move(State.RUNNING)


def test_supervise_returns_and_raises() -> None:
    assert supervise(lambda: 7, Latch(), StopRequest(), None) == 7

    def fails() -> None:
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        supervise(fails, Latch(), StopRequest(), None)


def test_the_timeout_counts_from_running() -> None:
    stop, running = StopRequest(), Latch()

    def work() -> float:
        time.sleep(0.3)
        assert not stop
        running.set()
        began = time.monotonic()
        assert wait_any([stop], 10)
        return time.monotonic() - began

    assert 0.15 < supervise(work, running, stop, 0.2) < 5


def test_a_timeout_of_centuries() -> None:
    def work() -> int:
        time.sleep(0.1)
        return 1

    running = Latch()
    running.set()
    assert supervise(work, running, StopRequest(), 1 << 62) == 1


def test_a_negative_timeout_has_expired() -> None:
    stop, running = StopRequest(), Latch()

    def work() -> bool:
        running.set()
        return wait_any([stop], 10)

    assert supervise(work, running, stop, -1)


def test_signals_ask_to_stop_and_interrupt() -> None:
    stop = StopRequest()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped), SignalGuard(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert stop
    assert signal.getsignal(signal.SIGTERM) is before


def test_signals_only_ask_when_not_interrupting() -> None:
    stop, called = StopRequest(), []
    stop.on_stop(lambda: called.append(1))
    with SignalGuard(stop) as guard:
        guard.interrupting = False
        os.kill(os.getpid(), signal.SIGINT)
        assert wait_any([stop], 10)
    assert called == [1]
    stop.set()
    stop.on_stop(lambda: called.append(2))
    assert called == [1, 2]


def test_a_signal_where_nothing_can_be_raised_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: heard.append(found.exc_type))

    class Ends:
        def __init__(self, work: Callable[[], object]) -> None:
            self._work = work

        def __del__(self) -> None:
            self._work()

    stop = StopRequest()
    with SignalGuard(stop):
        Ends(lambda: os.kill(os.getpid(), signal.SIGINT))
        assert stop
        assert heard == []
        Ends(lambda: 1 // 0)
    assert heard == [ZeroDivisionError]
    Ends(lambda: 1 // 0)
    assert len(heard) == 2


@pytest.mark.parametrize("delay", [0, 0.05], ids=["before waiting", "while waiting"])
def test_a_signal_that_another_thread_gets_is_noticed(delay: float) -> None:
    stop = StopRequest()

    def signalled() -> None:
        time.sleep(delay)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    thread = threading.Thread(target=signalled)
    with SignalGuard(stop) as guard:
        guard.interrupting = False
        thread.start()
        if not delay:
            thread.join()
        assert wait_any([stop], 10)
        thread.join()
    assert signal.set_wakeup_fd(-1) == -1


def test_a_second_signal_exits_at_once() -> None:
    code = (
        "import os, signal, time\n"
        "from ig_py.runtime.state import *\n"
        "with SignalGuard(StopRequest()) as g:\n"
        "    g.interrupting = False\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], timeout=30, check=False)
    assert done.returncode == 1


def test_waiting_for_any() -> None:
    first, second = Latch(), Latch()
    assert not wait_any([first, second], 0.01)
    threading.Timer(0.05, second.set).start()
    assert wait_any([first, second], 10)
    assert second and not first
