"""``-c``: the events of one Docker container, from its first instruction, and of no other."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import start_signal
from support.busybox import import_image
from support.engine import Engine, needed_engine
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget, of_docker
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "engine", "busybox"),
    pytest.mark.timeout(600),
]

IMAGE = "ig-py-busybox:run"
COMMANDS = "/bin/ls /; /bin/cat /etc/passwd; /bin/true"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with needed_engine(tmp_path_factory.mktemp("engine")) as engine:
        with contextlib.closing(engine.client()) as client:
            import_image(client, IMAGE)
        yield engine


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


@contextlib.contextmanager
def container(engine: Engine, directory: Path, name: str, commands: str) -> Iterator[str]:
    """A container that waits for :func:`start_signal.send`; its id."""
    volumes = start_signal.make(directory)
    command = start_signal.waiting_command(commands)
    with engine.container(IMAGE, command, name, volumes=volumes) as found:
        yield found


def traced(tmp_path: Path, engine: Engine, image: str, *arguments: str) -> RunningGadget:
    return of_docker(tmp_path / "run", engine.socket, image, *arguments)


def test_one_container_of_two(tmp_path: Path, engine: Engine, image: str) -> None:
    with (
        container(engine, tmp_path / "a", "ig-py-demo", COMMANDS) as demo,
        container(engine, tmp_path / "b", "ig-py-noise", COMMANDS),
        traced(tmp_path, engine, image, "-c", "ig-py-demo") as run,
    ):
        run.wait_running()
        start_signal.send(tmp_path / "b")
        start_signal.send(tmp_path / "a")
        wait_for(lambda: "/bin/true" in run.out, "the last execution is printed", 30)
        assert run.end() == 0
    events = run.events()
    assert [e["args"].split("\u00a0")[0] for e in events] == ["/bin/ls", "/bin/cat", "/bin/true"]
    for event in events:
        assert event["runtime"]["containerName"] == "ig-py-demo"
        assert event["runtime"]["containerId"] == demo
        assert event["runtime"]["runtimeName"] == "docker"
        assert event["runtime"]["containerImageName"] == IMAGE
        # The shell may execute its last command in its own place.
        pids = (event["proc"]["pid"], event["proc"]["parent"]["pid"])
        assert event["runtime"]["containerPid"] in pids
    assert run.account() == (3, 0)


def test_a_container_that_starts_later(tmp_path: Path, engine: Engine, image: str) -> None:
    with traced(tmp_path, engine, image, "-c", "!ig-py-noise") as run:
        run.wait_running()
        with (
            container(engine, tmp_path / "a", "ig-py-late", "/bin/ls /"),
            container(engine, tmp_path / "b", "ig-py-noise", "/bin/cat /dev/null"),
        ):
            start_signal.send(tmp_path / "b")
            start_signal.send(tmp_path / "a")
            wait_for(lambda: "/bin/ls" in run.out, "the execution is printed", 30)
        assert run.end() == 0
    names = {e["runtime"]["containerName"] for e in run.events()}
    assert "ig-py-late" in names
    assert "ig-py-noise" not in names


def test_host_shows_containers_too(tmp_path: Path, engine: Engine, image: str) -> None:
    with (
        container(engine, tmp_path / "a", "ig-py-demo", "/bin/ls /"),
        traced(tmp_path, engine, image, "--host") as run,
    ):
        run.wait_running()
        start_signal.send(tmp_path / "a")
        wait_for(lambda: '"containerName":"ig-py-demo"' in run.out, "the event is printed", 30)
        assert run.end() == 0
    assert any(e["args"] == "/bin/ls\u00a0/" for e in map(json.loads, run.out.splitlines()))


def test_a_container_over_its_budget_is_named(tmp_path: Path, engine: Engine, image: str) -> None:
    flood = "i=0; while [ $i -lt 60 ]; do /bin/true; i=$((i+1)); done; /bin/cat /etc/hostname"
    with (
        container(engine, tmp_path / "a", "ig-py-flood", flood),
        container(engine, tmp_path / "b", "ig-py-quiet", "/bin/ls /"),
        traced(tmp_path, engine, image, "--budget=2") as run,
    ):
        run.wait_running()
        began = time.monotonic()
        start_signal.send(tmp_path / "a")

        def accounted() -> bool:
            counts = re.findall(r'"throttled":(\d+),"throttled_by"', run.err)
            shown = run.out.count('"containerName":"ig-py-flood"')
            return bool(counts) and shown + int(counts[-1]) == 61

        wait_for(accounted, "the throttling is told", 30)
        seconds = time.monotonic() - began
        start_signal.send(tmp_path / "b")
        wait_for(lambda: "/bin/ls" in run.out, "the quiet one's event is printed", 30)
        assert run.end() == 0
    names = [e["runtime"]["containerName"] for e in run.events()]
    shown = names.count("ig-py-flood")
    kept_back = 61 - shown
    # A second's budget at once, and each second's after that.
    assert 0 < shown <= 2 * (1 + seconds)
    assert kept_back > 0
    last = run.err.splitlines()[-1]
    assert f"0 lost, {kept_back} throttled (ig-py-flood {kept_back})" in last
