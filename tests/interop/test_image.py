"""The image of ./Dockerfile: small, complete, and a tracer of its host."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from support.busybox import import_image
from support.engine import Engine, needed_engine
from support.in_container import HOST_ROOT, Tracer
from support.root_gadget import image_tar
from support.waiting import wait_for

pytestmark = [
    pytest.mark.any_kernel,
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "engine", "busybox", "image"),
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).parents[2]
TAG = "ig-py:test"
MAX_BYTES = 320 * 1024 * 1024
CAPABILITIES = ["SYS_ADMIN", "SYS_PTRACE"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with needed_engine(tmp_path_factory.mktemp("engine")) as started:
        yield started


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    environment = {"DOCKER_HOST": f"unix://{engine.socket}", "NETWORK": "host"}
    done = subprocess.run(
        [str(ROOT / "scripts/image"), TAG],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with contextlib.closing(engine.client()) as found:
        yield found


def test_small_and_complete(client: docker.DockerClient) -> None:
    assert client.images.get(TAG).attrs["Size"] < MAX_BYTES
    for arguments, said in ((["version"], "v0."), (["--help"], "list-containers")):
        out: bytes = client.containers.run(TAG, arguments, network_mode="none", remove=True)
        assert said in out.decode()
    for program in ("pip", "gcc", "clang"):
        with pytest.raises(docker.errors.APIError):
            client.containers.run(TAG, [], entrypoint=program, network_mode="none", remove=True)


def test_it_traces_its_host(client: docker.DockerClient, engine: Engine, tmp_path: Path) -> None:
    gadget = image_tar(tmp_path)
    volumes = {
        "/": {"bind": HOST_ROOT, "mode": "ro"},
        str(tmp_path): {"bind": "/gadget", "mode": "ro"},
    }
    arguments = ["run", f"/gadget/{gadget.name}", "--verify-image=false", "-o", "json", "-v"]
    arguments += ["-c", "ig-py-short", "--docker-socketpath", str(engine.socket)]
    busybox = import_image(client)
    with Tracer(
        client,
        TAG,
        arguments,
        volumes=volumes,
        program=(),
        pid_mode="host",
        read_only=True,
        cap_add=CAPABILITIES,
    ) as tracer:
        tracer.wait_running()
        client.containers.run(
            busybox, ["echo", "seen"], name="ig-py-short", network_mode="none", remove=True
        )
        wait_for(lambda: "seen" in tracer.out, "its execution", 20)
        assert tracer.stop() == 0, tracer.err
        (event,) = tracer.events()
    assert event["runtime"]["containerName"] == "ig-py-short"
    assert event["args"].replace("\u00a0", " ") == "echo seen"
