"""Which engines are asked, answer, are silent or restricted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ig_py.containers.discovery import Discovery
from ig_py.containers.engines.clients import EngineClients
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.containers.speakers import ROOT
from ig_py.host.proc import HostView


def client(name: str, *, connected: bool = False, error: str = "", only: str = "") -> object:
    config = EngineConfig(name, "/s", namespaces=tuple(filter(None, [only])))
    return SimpleNamespace(name=name, connected=connected, error=error, config=config, speaker=ROOT)


def engines(*clients: object) -> EngineClients:
    found = EngineClients([], SimpleNamespace())  # type: ignore[arg-type]
    found.clients = list(clients)  # type: ignore[arg-type]
    return found


def test_one_client_of_several_that_answers_is_enough() -> None:
    found = engines(client("podman", error="no such socket"), client("podman", connected=True))
    assert found.asked("podman") and found.answers("podman") and found.answers()
    assert found.silent("podman"), "the containers of the other user are not known"
    assert not found.may_answer("podman")
    assert not found.restricted("podman")


def test_an_engine_that_was_not_reached_yet_may_answer() -> None:
    found = engines(client("docker"), client("cri-o", error="refused"))
    assert found.may_answer("docker") and not found.may_answer("cri-o")
    assert found.silent("docker") and found.silent("cri-o")
    assert not found.answers()


def test_a_name_that_is_no_engines_stands_for_all() -> None:
    found = engines(client("docker", connected=True), client("containerd", connected=True))
    assert not found.asked("runc") and not found.answers("runc") and not found.silent("runc")
    found = engines(client("docker", connected=True), client("containerd"))
    assert found.silent("runc")
    assert not engines().silent("runc") and not engines().answers()


def test_namespaces_restrict_an_engine() -> None:
    found = engines(client("containerd", only="k8s.io"), client("docker"))
    assert found.restricted("containerd") and not found.restricted("docker")


@pytest.fixture
def discovery() -> Discovery:
    return Discovery([], HostView())


def described(name: str, engine: str = "docker") -> Container:
    return Container(runtime=RuntimeInfo(name=engine, container_id="c1", container_name=name))


def test_descriptions_are_told_of_until_the_container_is_in(discovery: Discovery) -> None:
    told: list[str] = []
    discovery.on_described(told.append)
    discovery.describe(described("web"))
    discovery.describe(described("c1", "containerd"))
    assert told == ["c1"], "Docker knows more of its own containers than containerd"
    found = discovery.description("c1")
    assert found is not None and found.runtime.container_name == "web"
    discovery.collection.add(found)
    discovery.renamed("c1", "db")
    assert told == ["c1"]
    now = discovery.collection.get("c1")
    assert now is not None and now.runtime.container_name == "db"
    discovery.stop()


def test_one_that_has_ended_passes_through_the_collection(discovery: Discovery) -> None:
    events: list[tuple[str, int, bool]] = []
    discovery.collection.subscribe(
        "test", lambda e: events.append((e.type.value, e.generation, e.named))
    )
    assert discovery.admit_ended(described("web"), 70, named=False)
    assert events == [("CREATED", 70, False), ("DELETED", 70, True)]
    discovery.stop()
