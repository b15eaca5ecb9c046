"""ig-py in a container of a real engine traces the other containers of the host."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from support.busybox import import_image
from support.engine import Engine, needed_engine
from support.in_container import HOST_ROOT, Tracer, background, mounts
from support.root_gadget import image_tar
from support.waiting import deadline, wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "engine", "busybox"),
    pytest.mark.timeout(deadline(300)),
]

CAPABILITIES = ["SYS_ADMIN", "SYS_PTRACE"]
"""What docs/in-a-container.md says."""
EARLY = "ig-py-early"
ANSWER = "docker.sock' answers"
SHORT = 4
"""Containers that end as soon as they start."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with needed_engine(tmp_path_factory.mktemp("engine")) as started:
        yield started


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    with contextlib.closing(engine.client()) as found:
        yield found


@pytest.fixture(scope="module")
def busybox(client: docker.DockerClient) -> str:
    return import_image(client)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_tar(tmp_path_factory.mktemp("image"))


def run(client: docker.DockerClient, image: str, name: str) -> str:
    container = client.containers.create(image, ["echo", name], name=name, network_mode="none")
    try:
        container.start()
        container.wait(timeout=deadline(60))
    finally:
        container.remove(force=True)
    found: str = container.id
    return found


def executions(tracer: Tracer) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in tracer.events():
        args = event["args"].replace("\u00a0", " ")
        found.setdefault(event["runtime"]["containerName"], []).append(args)
    return found


@pytest.mark.parametrize("cgroupns", ["host", "private"])
@pytest.mark.parametrize("pids", ["host", None], ids=["hosts_pids", "own_pids"])
def test_the_hosts_containers(
    client: docker.DockerClient,
    engine: Engine,
    busybox: str,
    image: Path,
    pids: str | None,
    cgroupns: str,
) -> None:
    options: dict[str, Any] = {"pid_mode": pids, "cgroupns": cgroupns, "cap_add": CAPABILITIES}
    names = [f"ig-py-short{number}" for number in range(SHORT)]
    arguments = ["run", str(image), "--verify-image=false", "-o", "json", "-v"]
    # Others may run containers on this machine.
    arguments += ["-c", ",".join([EARLY, *names]), "--docker-socketpath", str(engine.socket)]
    arguments += [f"--identify-timeout={deadline(2):g}s"]
    with (
        background(client, busybox, EARLY, "sleep", "1000") as early,
        Tracer(client, busybox, arguments, volumes=mounts(image.parent), **options) as tracer,
    ):
        tracer.wait_running()
        # Where control groups cannot be read, only the engine knows running containers.
        wait_for(lambda: "has answered yet" not in tracer.err or ANSWER in tracer.err, ANSWER, 30)
        early.exec_run(["echo", "executed"])
        ids = {name: run(client, busybox, name) for name in names}
        run(client, busybox, "ig-py-other")
        wait_for(lambda: tracer.out.count("\n") >= SHORT + 1, "every execution", 20)
        assert tracer.stop() == 0, tracer.err
        found = executions(tracer)
        assert "echo executed" in found.pop(EARLY)
        assert found == {name: [f"echo {name}"] for name in names}
        told = {e["runtime"]["containerName"]: e["runtime"] for e in tracer.events()}
        assert {name: told[name]["containerId"] for name in names} == ids


@pytest.mark.parametrize("cgroupns", ["host", "private"])
def test_list_containers_in_a_container(
    client: docker.DockerClient, engine: Engine, busybox: str, cgroupns: str
) -> None:
    arguments = ["list-containers", "-o", "json", "--docker-socketpath", str(engine.socket)]
    options: dict[str, Any] = {"pid_mode": "host", "cgroupns": cgroupns}
    with (
        background(client, busybox, EARLY, "sleep", "1000") as early,
        Tracer(
            client, busybox, arguments, volumes=mounts(), cap_add=["SYS_PTRACE"], **options
        ) as tracer,
    ):
        assert tracer.ended() == 0, tracer.err
        listed = {c["runtime"]["containerName"]: c for c in json.loads(tracer.out)}
        early.reload()
        pid = early.attrs["State"]["Pid"]
        for kind in ("mnt", "net"):
            assert listed[EARLY][f"{kind}ns"] == Path(f"/proc/{pid}/ns/{kind}").stat().st_ino
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    assert listed[EARLY]["runtime"]["containerPid"] == pid
    for key, sign in (("cgroupV1", ":name=systemd:"), ("cgroupV2", "0::")):
        (path,) = [line.split(":", 2)[2] for line in lines if sign in line] or [""]
        assert listed[EARLY].get(key, "") == (path if path != "/" else "")
    assert "tracer" in listed


def test_a_missing_host_root_is_reported(client: docker.DockerClient, busybox: str) -> None:
    volumes = {place: how for place, how in mounts().items() if how["bind"] != HOST_ROOT}
    with Tracer(client, busybox, ["list-containers"], volumes=volumes) as tracer:
        assert tracer.ended() == 1
        assert f"HOST_ROOT={HOST_ROOT}: there is no {HOST_ROOT}/proc" in tracer.err
        assert f"--volume /:{HOST_ROOT}:ro" in tracer.err
