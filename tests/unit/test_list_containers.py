"""``list-containers``: its modes, columns and selectors, against a fake engine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from support import stopped
from support.fake_docker import DIGEST, IMAGE, FakeContainer, FakeDocker, container_id, fake_docker
from support.waiting import deadline, wait_for

from ig_py.cli import main
from ig_py.cli._container_table import Table, choose, nanoseconds, seconds
from ig_py.containers.model import Container, KubernetesInfo, RuntimeInfo

HEADER = (
    "RUNTIME.RUNTIMENAME RUNTIME.CONTAINERID RUNTIME.CONTAINERNAME RUNTIME.CONTAINERPID"
    " RUNTIME.CONTAINERIMAGENAME RUNTIME.CONTAINERIMAGEID RUNTIME.CONTAINERIMAGEDIGEST"
    " RUNTIME.CONTAINERSTARTEDAT"
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeDocker]:
    children = [subprocess.Popen(["sleep", "300"]) for _ in range(3)]
    with fake_docker(tmp_path) as fake:
        for number, (name, child) in enumerate(
            zip(("web", "db", "x\x1b[2J"), children, strict=True)
        ):
            fake.add(FakeContainer(container_id(number), name, pid=child.pid))
        yield fake
    for child in children:
        child.kill()
        child.wait()


@pytest.fixture
def run(engine: FakeDocker, capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., str]:
    def call(*args: str, code: int = 0) -> str:
        socket = f"--docker-socketpath={engine.path}"
        assert main(["list-containers", "-r", "docker", socket, *args]) == code
        out, err = capsysbinary.readouterr()
        return (err if code else out).decode()

    return call


def test_columns(run: Callable[..., str]) -> None:
    lines = run().splitlines()
    assert lines[0] == HEADER
    assert [line.split(" ")[2] for line in lines[1:]] == ["db", "web", "x\\x1b[2J"]
    cells = lines[1].split(" ")
    assert cells[:2] == ["docker", container_id(1)]
    assert cells[4:7] == ["bb:latest", IMAGE, DIGEST]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", cells[7])


def test_chosen_columns(run: Callable[..., str]) -> None:
    out = run("-o", "columns=runtime.containername,MNTNS,hostNetwork", "-c", "web")
    mntns = Path("/proc/self/ns/mnt").stat().st_ino
    header, row = out.splitlines()
    assert header == "RUNTIME.CONTAINERNAME MNTNS HOSTNETWORK"
    assert row.startswith(f"web {mntns} ")


def test_json(run: Callable[..., str]) -> None:
    out = run("-o", "json", "-c", "db,web")
    assert out.startswith('[\n  {\n    "runtime": {\n      "runtimeName": "docker",')
    first, second = json.loads(out)
    assert first["runtime"]["containerName"] == "db"
    assert list(second) == [
        k
        for k in ("runtime", "k8s", "mntns", "netns", "hostNetwork", "cgroupPath", "cgroupID")
        if k in second
    ] + [k for k in ("cgroupV1", "cgroupV2") if k in second]
    assert run("-o", "json", "--containername", "!db,!web,!x\x1b[2J") == "[]\n"


def test_yaml(run: Callable[..., str]) -> None:
    documents = yaml.safe_load(run("-o", "yaml", "--containerimage-id", IMAGE[:20], "-c", "web"))
    assert [d["runtime"]["containerId"] for d in documents] == [container_id(0)]


@pytest.mark.parametrize(
    ("flag", "found"),
    [
        ("--runtime-containername=web", 1),
        (f"--containerimage-digest={DIGEST[7:25]}", 3),
        (f"--runtime-containerimage-digest=!{DIGEST}", 0),
        ("--k8s-namespace=shop", 0),
    ],
)
def test_selectors(run: Callable[..., str], flag: str, found: int) -> None:
    assert len(run(flag).splitlines()) == 1 + found


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("-o", "xml"), "not supported"),
        (("-o", "columns=nope"), "column 'nope' does not exist"),
        (("-o", "json=x"), "not supported"),
        (("-r", "foo"), "invalid argument '--runtime / -r': runtime 'foo' is not supported"),
        (("--docker-socketpath=/nonexistent/d.sock",), "no such socket"),
        (("--timeout=-1",), "timeout"),
        (("--timeout=1",), "--timeout has no effect: a list is printed once"),
        (("--host",), "--host has no effect: containers are listed, not the host"),
        (("web",), "unexpected extra argument (web)"),
        (("--podman-socketpath=/x",), "--podman-socketpath has no effect: --runtimes leaves out"),
        (("--containerd-namespace=x",), "--containerd-namespace has no effect: --runtimes leaves"),
        (("--runtime-protocol=cri",), "--docker-socketpath has no effect: with --runtime-protocol"),
    ],
)
def test_wrong_flags(run: Callable[..., str], args: tuple[str, ...], why: str) -> None:
    assert why in run(*args, code=1)


def test_watch(run: Callable[..., str], engine: FakeDocker) -> None:
    child = subprocess.Popen(["sleep", "300"])

    def change() -> None:
        wait_for(engine.subscribers, "subscribed", 5, 0.01)
        time.sleep(0.1)
        engine.begin(FakeContainer(container_id(9), "late", pid=child.pid))
        time.sleep(0.1)
        child.kill()
        child.wait()

    worker = threading.Thread(target=change)
    worker.start()
    out = run("-w", "-o", "json", "--timeout", "3", "-c", "web,late")
    worker.join()
    decoder, events = json.JSONDecoder(), []
    while out.strip():
        event, end = decoder.raw_decode(out)
        name = event["container"]["runtime"].get("containerName", "")
        events.append((event["event"], name))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", event["timestamp"])
        out = out[end:].lstrip()
    # Other containers of the machine are announced, too.
    events = [event for event in events if event[0] != "PRECREATE"]
    assert events == [("CREATED", "web"), ("CREATED", "late"), ("DELETED", "late")]


def test_watch_in_columns(run: Callable[..., str]) -> None:
    lines = run("-w", "--timeout", "1", "-c", "web").splitlines()
    lines = [line for line in lines if " PRECREATE " not in line]
    assert lines[0] == f"TIMESTAMP EVENT {HEADER}"
    assert lines[1].split(" ")[1:3] == ["CREATED", "docker"]
    assert len(lines) == 2


def test_a_table_for_a_terminal() -> None:
    runtime = RuntimeInfo(name="docker", container_id="c" * 64, container_name="web", pid=7)
    table = Table(choose(""), 200, str)
    assert table.header().startswith(
        "RUNTIME.RUNTIMENAME       RUNTIME.CONTAINE… RUNTIME.CONTAINERNAME"
        "                   RUNTIME… "
    )
    row = table.row(Container(runtime=runtime))
    assert row.startswith(f"docker{' ' * 19} {'c' * 16}… web")
    assert len(row) == len(table.header()) == 200


def test_cells() -> None:
    digest = "sha256:" + "ab" * 32
    container = Container(
        runtime=RuntimeInfo(image_name=digest),
        k8s=KubernetesInfo(pod_labels={"b": "2", "a": "1"}),
    )
    image, labels, started = choose(
        "runtime.containerImageName,k8s.labels,runtime.containerStartedAt"
    )
    assert image.cell(container) == "abababababab"
    assert labels.cell(container) == "a=1,b=2"
    assert started.cell(container) == "1970-01-01T00:00:00.000000000Z"
    assert seconds(1795413035804653300) == "2026-11-23T05:50:35Z"
    assert nanoseconds(1795413035804653300) == "2026-11-23T05:50:35.804653300Z"


def test_watching_goes_on_when_its_reader_stops(
    engine: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is bounded, and what is left out is told; then one signal ends it."""
    code = (
        "from ig_py.cli import list_containers\n"
        "list_containers.MAX_WAITING = 5\n"
        "from ig_py.__main__ import command\n"
        "command()\n"
    )
    argv = [sys.executable, "-P", "-c", code, "list-containers", "-w", "-r", "docker"]
    inits = [subprocess.Popen(["sleep", "300"]) for _ in range(20)]
    with stopped.pipe(tmp_path) as (write, read), (tmp_path / "err").open("wb") as err:
        stopped.fill(write)
        process = subprocess.Popen(
            [*argv, f"--docker-socketpath={engine.path}"], stdout=write, stderr=err
        )
        try:
            wait_for(engine.subscribers, "it follows the engine")
            for number, init in enumerate(inits, 100):
                container = FakeContainer(container_id(number), f"c{number}", pid=init.pid)
                engine.begin(container)
            time.sleep(1)
            os.set_blocking(read, False)
            os.read(read, 1 << 20)
            wait_for(lambda: b"were not shown" in (tmp_path / "err").read_bytes(), "it is told")
            stopped.fill(write)
            process.send_signal(signal.SIGTERM)
            assert process.wait(deadline(5)) == 0
        finally:
            process.kill()
            process.wait()
            for init in inits:
                init.kill()
                init.wait()


@pytest.mark.parametrize("watch", [(), ("-w", "--timeout", "2")])
def test_a_selection_without_a_container_is_told_once(
    engine: FakeDocker, capsys: pytest.CaptureFixture[str], watch: tuple[str, ...]
) -> None:
    argv = ["list-containers", "-r", "docker", f"--docker-socketpath={engine.path}", *watch]
    assert main([*argv, "-c", "nosuch"]) == 0
    err = capsys.readouterr().err
    assert err.count("no container that runs now is selected by --containername 'nosuch'") == 1
    assert "running: 'db', 'web', 'x" in err
    assert "\x1b" not in err
    assert main([*argv, "-c", "w*"]) == 0
    assert "selected" not in capsys.readouterr().err


@pytest.mark.parametrize("flag", [False, True])
def test_the_socket_that_the_environment_names_counts_without_a_flag(
    engine: FakeDocker, flag: bool
) -> None:
    start = "import ig_py.cli as cli; raise SystemExit(cli.main())"
    given = ["--docker-socketpath=/nonexistent/docker.sock"] if flag else []
    done = subprocess.run(
        [sys.executable, "-P", "-c", start, "list-containers", "-r", "docker", *given],
        env={**os.environ, "INSPEKTOR_GADGET_DOCKER_SOCKETPATH": str(engine.path)},
        capture_output=True,
        timeout=deadline(60),
    )
    shown = (done.returncode, b"web" in done.stdout)
    assert shown == ((1, False) if flag else (0, True)), done.stderr
