"""``ig-py run --hold-containers``: create and start wait for the tracer, for a limited time, and no
process or mark stays. ``IG_PY_FAILED_CREATES``: how many containers fail to be made (1000 take
minutes).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from support import fanotify
from support.engine import find_program
from support.oci_bundle import make_bundle
from support.oci_runtime import Runtime
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget
from support.tracer import children
from support.waiting import deadline, wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "busybox", "runc", "hold"),
    pytest.mark.timeout(1800),
]

FAILED_CREATES = int(os.environ.get("IG_PY_FAILED_CREATES", "20"))


def once(runtime: Runtime, name: str, bundle: Path) -> float:
    """Create, start, wait, delete, as engines do; seconds until it had started."""
    begun = time.monotonic()
    runtime.call("create", "--bundle", str(bundle), name)
    runtime.call("start", name)
    seconds = time.monotonic() - begun
    wait_for(lambda: runtime.call("delete", name, check=False) == 0, f"{name} has ended", 20)
    return seconds


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    # A guest's own root is a file system whose files cannot be held.
    program = shutil.copy(find_program("runc"), str(tmp_path / "runc"))
    monkeypatch.setenv("RUNTIME_PATH", program)
    return Runtime(program, str(tmp_path / "state"))


def tracing(directory: Path, image: str, names: list[str]) -> RunningGadget:
    only = ("-c", ",".join(names))
    arguments = ("--verify-image=false", "-o", "json", "--hold-containers", "-r", "runc", *only)
    return RunningGadget(directory, image, *arguments)


def keeper_of(gadget: RunningGadget) -> int:
    (found,) = [p for p in children(gadget.process.pid) if fanotify.named(p) == "ig-exec-hold"]
    return found


def test_runtimes_are_held_until_containers_are_known(
    tmp_path: Path, image: str, runtime: Runtime
) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/echo", "out")
    names = [f"ig-py-held-{number}" for number in range(4)]
    with tracing(tmp_path / "run", image, names) as gadget:
        gadget.wait_running()
        for name in names:
            once(runtime, name, bundle)
        wait_for(lambda: gadget.out.count("\n") >= len(names), "all events", 20)
        assert gadget.end() == 0
    assert gadget.executions() == [(name, "/bin/echo out") for name in names]
    # On a very slow machine, runtimes are no longer held.
    told = re.search(r"(\d+) runtimes held .*; (\d+) not held", gadget.err)
    assert told is not None, gadget.err
    assert int(told[1]) >= 1
    assert int(told[1]) + int(told[2]) >= 2 * len(names)


def test_a_stopped_tracer_holds_no_runtime(tmp_path: Path, image: str, runtime: Runtime) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/echo", "out")
    names = [f"ig-py-stopped-hold-{number}" for number in range(4)]
    with tracing(tmp_path / "run", image, names) as gadget:
        gadget.wait_running()
        gadget.process.send_signal(signal.SIGSTOP)
        try:
            for name in names:
                assert once(runtime, name, bundle) < deadline(10)
        finally:
            gadget.process.send_signal(signal.SIGCONT)
        wait_for(lambda: gadget.out.count("\n") >= len(names), "all events", 20)
        assert gadget.end() == 0
    assert sorted(gadget.executions()) == [(name, "/bin/echo out") for name in names]
    assert gadget.account() == (len(names), 0)


def test_a_killed_tracer_holds_no_runtime(tmp_path: Path, image: str, runtime: Runtime) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/echo", "out")
    with tracing(tmp_path / "run", image, ["ig-py-killed"]) as gadget:
        gadget.wait_running()
        keeper = keeper_of(gadget)
        gadget.process.kill()
        gadget.process.wait()
        once(runtime, "ig-py-killed", bundle)
        wait_for(lambda: not Path(f"/proc/{keeper}/fd/4").exists(), "it has ended, too", 10)


def test_containers_that_fail_leave_nothing(tmp_path: Path, image: str, runtime: Runtime) -> None:
    bundle = make_bundle(tmp_path / "bundle", "/bin/echo", "out")
    broken = make_bundle(tmp_path / "broken", "/no/such/program")
    names = ["ig-py-after-failures"]
    with tracing(tmp_path / "run", image, names) as gadget:
        gadget.wait_running()
        once(runtime, "ig-py-before-failures", bundle)
        tracer, keeper = gadget.process.pid, keeper_of(gadget)

        def held() -> list[object]:
            return [(fanotify.held(p), fanotify.groups(p)) for p in (tracer, keeper)]

        before = held()
        assert [list(groups.values()) for _, groups in before] == [[1], [1]]
        for number in range(FAILED_CREATES):
            name = f"ig-py-failed-{number}"
            assert runtime.call("create", "--bundle", str(broken), name, check=False) != 0
        once(runtime, names[0], bundle)
        wait_for(lambda: gadget.out.count("\n") >= 1, "its event", 20)
        # An ended container and its namespaces are kept for some seconds.
        pins = fanotify.pinned(tracer)
        wait_for(lambda: not pins & fanotify.pinned(tracer), "all are forgotten", 30, 0.5)
        assert held() == before
        assert gadget.end() == 0
    assert gadget.executions() == [(names[0], "/bin/echo out")]
