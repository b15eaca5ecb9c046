"""What an engine that answers says of a container wins in the end, whoever took it in first."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import fake_containerd, fake_cri, fake_docker
from support.waiting import wait_for

from ig_py.containers.collection import Event, EventType
from ig_py.containers.discovery import Discovery
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.containers.selected_events import SelectedEvents
from ig_py.containers.sources import DiscoverySource
from ig_py.containers.speakers import KERNEL

ID = "1a" * 32
ENGINES = ("docker", "podman", "containerd", "cri-o")


@pytest.fixture
def init() -> Iterator[int]:
    with subprocess.Popen(["sleep", "300"]) as child:
        yield child.pid
        child.kill()


def unknown(runtime: str = "unknown") -> Container:
    return Container(runtime=RuntimeInfo(runtime, ID, ID))


def run_engine(engine: str, path: Path, init: int) -> tuple[EngineConfig, ExitStack]:
    """An engine with one container, ``web``, that is not started yet; the stack stops it."""
    stop = ExitStack()
    config = EngineConfig(engine, str(path))
    if engine in ("docker", "podman"):
        docker = fake_docker.FakeDocker(path)
        docker.add(fake_docker.FakeContainer(ID, "web", pid=init))
        stop.callback(docker.stop)
        docker.start()
    elif engine == "containerd":
        containerd = fake_containerd.FakeContainerd(path)
        labels = {"nerdctl/name": "web"}
        containerd.add(fake_containerd.FakeContainer(ID, init, labels=labels))
        stop.callback(containerd.stop)
        containerd.start()
    else:
        cri = fake_cri.FakeCri(path)
        cri.add(fake_cri.FakeContainer(ID, "web", pid=init))
        config = EngineConfig(engine, str(path), protocol="cri")
        stop.callback(cri.stop)
        cri.start()
    return config, stop


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("source", [DiscoverySource.PROCESSES, DiscoverySource.KERNEL])
def test_a_container_that_was_taken_in_before_its_engine_answered(
    tmp_path: Path, init: int, engine: str, source: DiscoverySource
) -> None:
    config, stop = run_engine(engine, tmp_path / "engine.sock", init)
    discovery = Discovery([config], unmanaged=True)
    seen: list[tuple[str, str]] = []

    def show(event: Event) -> None:
        name = event.container.runtime.container_name
        seen.append((event.type.value, "web" if "web" in name else name))

    discovery.collection.subscribe("test", SelectedEvents(lambda c: c.id == ID, show))
    with stop:
        if source is DiscoverySource.KERNEL:
            discovery.admit(unknown(), init, 0, named=False)
        else:
            discovery.found_unmanaged(unknown(), init, source, KERNEL)
        assert seen == [("CREATED", ID)]
        discovery.start()
        try:
            assert discovery.wait_listed(10)
            found = discovery.collection.get(ID)
        finally:
            discovery.stop()
    assert found is not None
    assert found.runtime.name == engine
    assert seen == [("CREATED", ID), ("UPDATED", "web")]


def test_what_no_engine_said_replaces_no_description(init: int) -> None:
    discovery = Discovery([])
    web = Container(runtime=RuntimeInfo("containerd", ID, "web"))
    discovery.describe(web)
    discovery.found_unmanaged(unknown(), init, DiscoverySource.PROCESSES, KERNEL)
    discovery.admit(unknown(), init, 0, named=False)
    found, live = discovery.collection.get(ID), discovery.live(ID)
    discovery.stop()
    assert found is not None
    assert (found.runtime.name, found.runtime.container_name) == ("containerd", "web")
    assert live


def test_an_init_in_another_namespace_than_the_kernel_told_is_not_taken_in(init: int) -> None:
    """Its number may be another process's by the time that it is looked at."""
    discovery = Discovery([])
    own = Path(f"/proc/{init}/ns/mnt").stat().st_ino
    discovery.admit(unknown(), init, own + 1, named=False)
    assert discovery.collection.get(ID) is None
    discovery.admit(unknown(), init, own, named=False)
    found = discovery.collection.get(ID)
    discovery.stop()
    assert found is not None
    assert found.mntns == own


def test_a_container_of_docker_in_containerds_namespace_is_dockers(
    tmp_path: Path, init: int
) -> None:
    engine = fake_containerd.FakeContainerd(tmp_path / "c.sock")
    engine.add(fake_containerd.FakeContainer(ID, init, namespace="moby"))
    engine.start()
    names = {}
    for namespaces in ((), ("moby",)):
        discovery = Discovery([EngineConfig("containerd", str(engine.path), namespaces=namespaces)])
        discovery.start()
        assert discovery.wait_listed(10)
        names[namespaces] = [c.runtime.name for c in discovery.collection.containers()]
        discovery.stop()
    engine.stop()
    assert names == {(): ["docker"], ("moby",): ["containerd"]}


def test_dockers_name_is_kept_when_containerd_tells_of_the_container(init: int) -> None:
    discovery = Discovery([])
    discovery.started(Container(runtime=RuntimeInfo("docker", ID, "web")), init)
    for runtime in ("docker", "containerd", "unknown"):
        discovery.describe(unknown(runtime))
        found = discovery.collection.get(ID)
        assert found is not None
        assert found.runtime.container_name == "web"
    discovery.stop()


def test_a_rename_that_was_not_heard(
    tmp_path: Path, init: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ig_py.containers.engines.engine.FIRST_PAUSE", 0.02)
    engine = fake_containerd.FakeContainerd(tmp_path / "c.sock")
    container = fake_containerd.FakeContainer(ID, init, labels={"nerdctl/name": "old"})
    engine.add(container)
    engine.start()
    discovery = Discovery([EngineConfig("containerd", str(engine.path))])
    discovery.start()
    assert discovery.wait_listed(10)
    engine.stop()
    wait_for(lambda: not discovery.engines.answers(), "noticed", 10, 0.01)
    container.labels["nerdctl/name"] = "new"
    engine.start()
    wait_for(
        lambda: [c.runtime.container_name for c in discovery.collection.containers()] == ["new"],
        "listed again",
        10,
        0.01,
    )
    discovery.stop()
    engine.stop()


def event(kind: EventType, name: str, image: str = "") -> Event:
    runtime = RuntimeInfo("docker", ID, name, image_name=image)
    return Event(kind, Container(runtime=runtime))


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        # The name is told after the container was taken in.
        ([("CREATED", ID), ("UPDATED", "web"), ("DELETED", "web")], ["CREATED", "DELETED"]),
        # It gets a name that is not selected, and gets the selected one back.
        (
            [("CREATED", "web"), ("UPDATED", "db"), ("UPDATED", "web"), ("DELETED", "web")],
            ["CREATED", "DELETED", "CREATED", "DELETED"],
        ),
        ([("CREATED", "web"), ("UPDATED", "web")], ["CREATED"]),
        ([("CREATED", ID), ("UPDATED", "db"), ("DELETED", "db")], []),
        ([("PRECREATE", ""), ("CREATED", "web"), ("EXPIRED", "web")], ["PRECREATE", "CREATED"]),
    ],
)
def test_selected_events(events: list[tuple[str, str]], shown: list[str]) -> None:
    seen: list[str] = []
    subscriber = SelectedEvents(
        lambda c: c.runtime.container_name == "web", lambda e: seen.append(e.type.value)
    )
    for kind, name in events:
        subscriber(event(EventType(kind), name))
    assert seen == shown


def test_another_name_or_image_of_a_selected_container_is_shown() -> None:
    seen: list[tuple[str, str, str]] = []
    subscriber = SelectedEvents(
        lambda c: True,
        lambda e: seen.append(
            (e.type.value, e.container.runtime.container_name, e.container.runtime.image_name)
        ),
    )
    subscriber(event(EventType.CREATED, "web"))
    subscriber(event(EventType.UPDATED, "db"))
    subscriber(event(EventType.UPDATED, "db", "bb:2"))
    assert seen == [("CREATED", "web", ""), ("UPDATED", "db", ""), ("UPDATED", "db", "bb:2")]
