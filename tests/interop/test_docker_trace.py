"""``ig-py run`` on containers of a real engine: selected ones only, from the first execution."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.busybox import import_image
from support.engine import Engine, needed_engine
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget, of_docker
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "engine", "busybox"),
    pytest.mark.timeout(600),
]

ATTEMPTS = 3
SHORT_LIVED = 24
"""Containers that end as soon as they start, four at a time."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with needed_engine(tmp_path_factory.mktemp("engine")) as started:
        with contextlib.closing(started.client()) as client:
            import_image(client)
        yield started


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("image")))


def run(engine: Engine, name: str, *argv: str) -> str:
    """Run a container to its end; its id."""
    with contextlib.closing(engine.client()) as client:
        container = client.containers.create(
            "ig-py-busybox:local", list(argv), name=name, network_mode="none"
        )
        container.start()
        container.wait(timeout=60)
        found: str = container.id
        container.remove(force=True)
    return found


def tracing(directory: Path, engine: Engine, image: str, *arguments: str) -> RunningGadget:
    return of_docker(directory, engine.socket, image, *arguments)


def by_name(gadget: RunningGadget) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, command in gadget.executions():
        found[name].append(command)
    return found


def test_one_selected_container_from_its_first_exec(
    tmp_path: Path, engine: Engine, image: str
) -> None:
    with tracing(tmp_path, engine, image, "-c", "demo") as gadget:
        gadget.wait_running()
        run(engine, "noise", "/bin/echo", "noise")
        demo = run(engine, "demo", "/bin/sh", "-c", "/bin/echo one; /bin/ls /; exec /bin/true")
        run(engine, "demolished", "/bin/echo", "noise")
        wait_for(lambda: gadget.out.count("\n") >= 4, "four events", 10)
        assert gadget.end() == 0
    events = gadget.events()
    assert by_name(gadget) == {
        "demo": [
            "/bin/sh -c /bin/echo one; /bin/ls /; exec /bin/true",
            "/bin/echo one",
            "/bin/ls /",
            "/bin/true",
        ]
    }
    first = events[0]
    assert first["runtime"] == {
        "containerId": demo,
        "containerImageDigest": "",
        "containerImageName": "ig-py-busybox:local",
        "containerName": "demo",
        "containerPid": first["proc"]["pid"],
        "containerStartedAt": first["runtime"]["containerStartedAt"],
        "runtimeName": "docker",
    }
    assert 0 < first["runtime"]["containerStartedAt"] <= first["timestamp_raw"]
    assert first["k8s"] == {
        "containerName": "",
        "hostnetwork": False,
        "namespace": "",
        "node": "",
        "owner": {"kind": "", "name": ""},
        "podLabels": "",
        "podName": "",
    }


def test_running_containers_and_negation(tmp_path: Path, engine: Engine, image: str) -> None:
    with contextlib.closing(engine.client()) as client:
        containers = [
            client.containers.run(
                "ig-py-busybox:local",
                ["sleep", "300"],
                name=name,
                network_mode="none",
                detach=True,
            )
            for name in ("there", "other")
        ]
        with tracing(tmp_path, engine, image, "-c", "!other") as gadget:
            gadget.wait_running()
            for container in containers:
                container.exec_run(["/bin/echo", "executed"])
            run(engine, "later", "/bin/true")
            wait_for(lambda: gadget.out.count("\n") >= 2, "two events", 10)
            assert gadget.end() == 0
        for container in containers:
            container.remove(force=True)
    # exec's own runtime may show as well; the command itself is what counts.
    found = by_name(gadget)
    assert set(found) == {"there", "later"}
    assert "/bin/echo executed" in found["there"]
    assert found["later"] == ["/bin/true"]


def test_short_lived_containers_all_show_their_first_exec(
    tmp_path: Path, engine: Engine, image: str
) -> None:
    # Other containers that start meanwhile may count as lost: then measure again.
    attempts = (_short_lived(tmp_path / str(n), engine, image) for n in range(ATTEMPTS))
    assert any(lost == 0 for lost in attempts)


def _short_lived(directory: Path, engine: Engine, image: str) -> int:
    """How many events are said to be lost; all of the containers' must be there."""
    names = [f"short{number}" for number in range(SHORT_LIVED)]
    with tracing(directory, engine, image) as gadget:
        gadget.wait_running()
        with ThreadPoolExecutor(4) as pool:
            started = dict(
                zip(names, pool.map(lambda n: run(engine, n, "/bin/echo", n), names), strict=True)
            )
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: gadget.out.count("\n") >= SHORT_LIVED, "all events", 10)
        assert gadget.end() == 0
    assert by_name(gadget) == {name: [f"/bin/echo {name}"] for name in names}
    ids = {e["runtime"]["containerName"]: e["runtime"]["containerId"] for e in gadget.events()}
    assert ids == started
    emitted, lost = gadget.account()
    assert emitted == SHORT_LIVED
    return lost


def test_the_engine_may_start_after_the_gadget(tmp_path: Path, image: str, engine: Engine) -> None:
    """The socket is a link that appears later, as if the engine did."""
    late = Engine(tmp_path / "late.sock", ours=False)
    name = "ig-py-after-the-gadget"
    # The machine's other engines, and containers that no engine manages, do not count here.
    arguments = ["-r", "docker", "--docker-socketpath", str(late.socket), "-c", name]
    arguments += ["-o", "json", "--verify-image=false"]
    with RunningGadget(tmp_path / "refused", image, *arguments) as refused:
        assert refused.process.wait(60) == 1
    assert "no such socket" in refused.err
    late.socket.touch()
    with RunningGadget(tmp_path / "waiting", image, *arguments) as gadget:
        gadget.wait_running()
        assert gadget.err.count("no container engine answers") == 1
        late.socket.unlink()
        late.socket.symlink_to(engine.socket)
        wait_for(lambda: "answers" in gadget.err.splitlines()[-1], "connected", 20)
        run(engine, name, "/bin/true")
        wait_for(lambda: name in gadget.out, "the event", 10)
        assert gadget.end() == 0
    assert by_name(gadget) == {name: ["/bin/true"]}


def test_packets_of_a_container_have_its_name(tmp_path: Path, engine: Engine) -> None:
    gadget_source = str(Path(__file__).parents[1] / "gadgets/socket_owner")
    send = "while /bin/busybox sleep 0.1; do /bin/busybox nc 127.0.0.1 47110; done"
    with (
        contextlib.closing(engine.client()) as client,
        tracing(tmp_path, engine, gadget_source, "-c", "sender") as gadget,
    ):
        gadget.wait_running()
        container = client.containers.run(
            "ig-py-busybox:local",
            ["/bin/sh", "-c", send],
            name="sender",
            network_mode="none",
            detach=True,
        )
        try:
            wait_for(lambda: '"outgoing":1' in gadget.out, "a packet")
        finally:
            container.remove(force=True)
        assert gadget.end() == 0
    events = [e for e in gadget.events() if e["remote"] == 47110 and e["outgoing"]]
    assert {(e["proc"]["comm"], e["exepath"], e["runtime"]["containerName"]) for e in events} == {
        ("busybox", "/bin/busybox", "sender")
    }
