"""A Docker container's executions on a kernel with kprobes: every field is there."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from support import busybox, start_signal, tracer
from support.engine import Engine, own_engine
from support.processes import end
from support.root_gadget import image_tar
from support.running_gadget import IG_PY
from support.waiting import deadline, wait_for

pytestmark = pytest.mark.needs("root", "bpf", "kprobe", "engine", "busybox")

LINKS_WITH_KPROBE = 5
COMMANDS = "/bin/ls /; /bin/cat /etc/passwd; /bin/echo bye; read word </go/pipe"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with own_engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture(scope="module")
def events(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What trace_exec says of a container that waits, then runs COMMANDS."""
    work = tmp_path_factory.mktemp("trace")
    output = work / "events.json"
    argv = [
        *(IG_PY, "run", str(image_tar(work)), "-c", "c1", "-o", "json", "--paths"),
        *("--runtimes=docker", f"--docker-socketpath={engine.socket}", "--verify-image=false"),
    ]
    with contextlib.closing(engine.client(60)) as client:
        image = busybox.import_image(client, "bb:latest")
        container = client.containers.run(
            image,
            start_signal.waiting_command(COMMANDS),
            name="c1",
            detach=True,
            network_mode="none",
            volumes=start_signal.make(work / "go"),
        )
        with output.open("wb") as sink, (work / "messages").open("wb") as messages:
            run = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=messages)

        container.reload()
        first = container.attrs["State"]["Pid"]

        def watching() -> bool:
            assert run.poll() is None, (work / "messages").read_text()
            return tracer.links(run.pid) >= LINKS_WITH_KPROBE and tracer.admits(run.pid, first)

        def complete() -> list[dict[str, Any]]:
            found = [
                json.loads(line)
                for line in output.read_text().splitlines(True)
                if line[-1:] == "\n"
            ]
            return found if any(event["args"].endswith("bye") for event in found) else []

        try:
            wait_for(watching, "ig-py watches the container", 30)
            start_signal.send(work / "go")
            found = wait_for(complete, "the last event", 20)
            run.send_signal(signal.SIGINT)
            assert run.wait(deadline(20)) == 0, (work / "messages").read_text()
        finally:
            end(run)
            container.remove(force=True)
    return found


def test_every_execution_of_the_container_is_there(events: list[dict[str, Any]]) -> None:
    commands = [event["args"].replace("\N{NO-BREAK SPACE}", " ") for event in events]
    assert commands[:3] == ["/bin/ls /", "/bin/cat /etc/passwd", "/bin/echo bye"]


def test_the_kprobe_fills_the_file_fields(events: list[dict[str, Any]]) -> None:
    for event in events:
        assert event["file"] == "/bin/busybox"
        assert event["inode"] > 0
        assert (event["dev_major"], event["dev_minor"]) != (0, 0)
        assert event["exepath"] == "/bin/busybox"


def test_the_container_is_named(events: list[dict[str, Any]]) -> None:
    for event in events:
        assert event["runtime"]["containerName"] == "c1"
        assert event["runtime"]["runtimeName"] == "docker"
        assert event["runtime"]["containerImageName"] == "bb:latest"
        assert len(event["runtime"]["containerId"]) == 64
