"""The containerd client against an engine that only pretends (support/fake_containerd.py)."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.fake_containerd import CONFIG, INDEX, FakeContainer, FakeContainerd
from support.fake_proc import OneInit
from support.waiting import deadline, wait_for

from ig_py.containers.discovery import Discovery
from ig_py.containers.engines import containerd, containerd_calls, engine, grpc_engine
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.engines.engine import NoAnswer
from ig_py.containers.engines.protos import containerd_pb2 as pb
from ig_py.host.proc import boot_seconds

Spawn = Callable[[], int]
POD = {
    "io.kubernetes.container.name": "main",
    "io.kubernetes.pod.name": "pod-one",
    "io.kubernetes.pod.namespace": "shop",
    "io.kubernetes.pod.uid": "1111",
}


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Processes to play the containers' init."""
    children: list[subprocess.Popen[bytes]] = []

    def start() -> int:
        children.append(subprocess.Popen(["sleep", "300"]))
        return children[-1].pid

    yield start
    for child in children:
        child.kill()
        child.wait()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeContainerd]:
    started = FakeContainerd(tmp_path / "c.sock")
    started.start()
    yield started
    started.stop()


@contextmanager
def watching(path: Path, **config: object) -> Iterator[tuple[Discovery, list[tuple[str, str]]]]:
    discovery = Discovery([EngineConfig("containerd", str(path), **config)])  # type: ignore[arg-type]
    events: list[tuple[str, str]] = []
    discovery.collection.subscribe(
        "test", lambda e: events.append((e.type.value, e.container.runtime.container_name))
    )
    discovery.start()
    try:
        yield discovery, events
    finally:
        discovery.stop()


def test_what_is_listed(fake: FakeContainerd, spawn: Spawn) -> None:
    pid = spawn()
    fake.add(FakeContainer("one", pid))
    fake.add(FakeContainer("pause", spawn(), labels={"io.cri-containerd.kind": "sandbox"}))
    fake.add(FakeContainer("f" * 64, spawn(), labels=POD, namespace="k8s.io"))
    fake.add(FakeContainer("stopped"))
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        assert events == [("CREATED", "one"), ("CREATED", "main")]
        found = discovery.collection.get("one")
        assert found is not None
        assert found.to_json()["runtime"] == {
            "runtimeName": "containerd",
            "containerId": "one",
            "containerName": "one",
            "containerPid": pid,
            "containerImageName": "docker.io/library/bb:latest",
            "containerImageId": CONFIG,
            "containerImageDigest": INDEX,
            "containerStartedAt": found.runtime.started_at,
        }
        pod = discovery.collection.get("f" * 64)
        assert pod is not None
        assert pod.to_json()["k8s"] == {
            "namespace": "shop",
            "podName": "pod-one",
            "containerName": "main",
            "podUID": "1111",
        }
        assert discovery.engines.clients[0].containers == 2


def test_namespaces_are_chosen_or_left_to_their_engine(fake: FakeContainerd, spawn: Spawn) -> None:
    for number, namespace in enumerate(("default", "k8s.io", "moby")):
        fake.add(FakeContainer(f"c{number}", spawn(), namespace=namespace))
    with watching(fake.path, others_namespaces=("moby",)) as (discovery, events):
        assert discovery.wait_listed(10)
        assert [name for _, name in events] == ["c0", "c1"]
    with watching(fake.path, namespaces=("moby",)) as (discovery, events):
        assert discovery.wait_listed(10)
        assert [name for _, name in events] == ["c2"]


def test_life_by_events_without_waiting(
    fake: FakeContainerd, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containerd, "FIRST_CHECK", 300)
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        wait_for(fake.subscribers, "subscribed", 5, 0.01)
        container = FakeContainer("one", spawn())
        fake.begin(container)
        wait_for(lambda: events == [("CREATED", "one")], "created", 5, 0.01)
        fake.begin(FakeContainer("two", spawn(), namespace="born-later"))
        wait_for(lambda: events[1:] == [("CREATED", "two")], "in a new namespace", 5, 0.01)


def test_a_listing_finds_containers_without_an_event(
    fake: FakeContainerd, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containerd, "FIRST_CHECK", 0.05)
    monkeypatch.setattr(containerd, "CHECK_SECONDS", 0.05)
    fake.namespaces.append("default")
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        fake.add(FakeContainer("silent", spawn()))
        wait_for(lambda: events == [("CREATED", "silent")], "found", 5, 0.01)
        (client,) = discovery.engines.clients
        wait_for(lambda: getattr(client, "missed", 0) == 1, "counted", 5, 0.01)


def test_an_engine_that_stops_and_comes_back(
    fake: FakeContainerd, spawn: Spawn, caplog: pytest.LogCaptureFixture
) -> None:
    fake.add(FakeContainer("one", spawn()))
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        fake.stop()
        wait_for(lambda: not discovery.engines.answers(), "noticed", 10, 0.01)
        # Containers outlive their engine.
        assert events == [("CREATED", "one")]
        fake.add(FakeContainer("two", spawn()))
        fake.start()
        wait_for(lambda: events[1:] == [("CREATED", "two")], "listed again", 10, 0.01)
        assert discovery.engines.answers()
    assert "waiting for it to come back" in caplog.text


@pytest.mark.parametrize("method", ["Namespaces/List", "Tasks/List", "Containers/List"])
def test_wrong_answers_are_retried_and_said_once(
    fake: FakeContainerd,
    spawn: Spawn,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    monkeypatch.setattr(engine, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(engine, "MAX_PAUSE", 0.05)
    fake.add(FakeContainer("one", spawn()))
    fake.override[method] = lambda: b"\xff\xff\xff"
    with watching(fake.path, explicit=True) as (discovery, events):
        assert discovery.wait_listed(10)
        assert not discovery.engines.answers()
        wait_for(lambda: fake.calls.count(method) > 2, "asked again", 10, 0.01)
        fake.override.clear()
        wait_for(lambda: events == [("CREATED", "one")], "in the end", 10, 0.01)
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert method in warnings[0]


def test_malformed_events_break_the_connection_only(fake: FakeContainerd, spawn: Spawn) -> None:
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        wait_for(fake.subscribers, "subscribed", 5, 0.01)
        odd = pb.Envelope(namespace="default", topic="/tasks/start")
        odd.event.value = b"\xff\xff"
        fake.raw(odd.SerializeToString())
        fake.begin(FakeContainer("one", spawn()))
        wait_for(lambda: events == [("CREATED", "one")], "seen after all", 10, 0.01)


def test_hostile_names_and_labels_are_bounded(fake: FakeContainerd, spawn: Spawn) -> None:
    labels = {f"k{i}": "v" * 5000 for i in range(500)} | {
        "io.kubernetes.container.name": "n" * 9999
    }
    fake.add(FakeContainer("one", spawn(), image="i" * 100_000, labels=labels))
    fake.add(FakeContainer("../../etc", spawn()))
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        found = discovery.collection.get("one")
    assert len(events) == 1
    assert found is not None
    assert len(found.runtime.container_name) <= 4096
    assert len(found.runtime.image_name) == 1024


def test_a_slow_engine_holds_nothing_up(
    fake: FakeContainerd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(grpc_engine, "TIMEOUT_SECONDS", 0.2)

    def slow() -> bytes:
        time.sleep(1)
        return b""

    fake.override["Namespaces/List"] = slow
    with watching(fake.path, explicit=True) as (discovery, _):
        assert not discovery.wait_listed(0.05)
        begun = time.monotonic()
    assert time.monotonic() - begun < deadline(engine.JOIN_SECONDS)
    assert "did not stop" not in caplog.text


def too_slow(fake: FakeContainerd, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first listing on, no other one is answered."""
    for name in ("FIRST_CHECK", "CHECK_SECONDS", "AGAIN_SECONDS"):
        monkeypatch.setattr(containerd, name, 0.05)
    monkeypatch.setattr(containerd_calls, "LIST_SECONDS", 0.2)

    def slow() -> bytes:
        time.sleep(0.4)
        return b""

    fake.override["Tasks/List"] = slow


def test_an_engine_that_is_too_slow_for_a_listing_is_still_listened_to(
    fake: FakeContainerd, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.namespaces.append("default")
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        wait_for(fake.subscribers, "subscribed", 5, 0.01)
        too_slow(fake, monkeypatch)
        fake.begin(FakeContainer("one", spawn()))
        wait_for(lambda: fake.calls.count("Tasks/List") >= 4, "asked again and again", 10, 0.01)
        assert discovery.engines.clients[0].connected
        fake.begin(FakeContainer("two", spawn()))
        wait_for(lambda: ("CREATED", "two") in events, "its events count", 10, 0.01)
        assert fake.subscribers() == 1


def test_events_that_stay_unanswered_do_not_put_the_listing_off(
    fake: FakeContainerd, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containerd, "FIRST_CHECK", 0.6)
    monkeypatch.setattr(containerd, "AGAIN_SECONDS", 300)
    fake.namespaces.append("default")

    def unanswered(*_args: object) -> None:
        raise NoAnswer("Get: no answer")

    monkeypatch.setattr(containerd.ContainerdClient, "_described", unanswered)
    monkeypatch.setattr(containerd.ContainerdClient, "_task", unanswered)
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        wait_for(fake.subscribers, "subscribed", 5, 0.01)
        fake.begin(FakeContainer("one", spawn()))
        wait_for(lambda: events == [("CREATED", "one")], "the listing found it", 10, 0.01)


def test_an_engine_that_answers_nothing_any_more_is_gone(
    fake: FakeContainerd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containerd, "MAX_UNANSWERED", 1)
    fake.namespaces.append("default")
    too_slow(fake, monkeypatch)
    listed = fake.override.pop("Tasks/List")
    with watching(fake.path) as (discovery, _):
        assert discovery.wait_listed(10)
        fake.override["Tasks/List"] = listed
        wait_for(lambda: not discovery.engines.clients[0].connected, "it counts as gone", 10, 0.01)


def test_a_dead_pid_is_no_container(fake: FakeContainerd, spawn: Spawn) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    fake.add(FakeContainer("dead", child.pid))
    fake.add(FakeContainer("huge", 2**31))
    fake.add(FakeContainer("fine", spawn()))
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        assert events == [("CREATED", "fine")]


@pytest.mark.parametrize("number", [3, 100])
def test_a_listing_asks_as_often_however_many_containers_run(
    fake: FakeContainerd, spawn: Spawn, number: int
) -> None:
    """Their control groups are not named by them: that each pid is still its process is told by
    when that began."""
    pid, view = spawn(), OneInit()
    wait_for(lambda: view.began_before(pid, boot_seconds()), "a tick of the clock", 5, 0.01)
    for each in range(number):
        fake.add(FakeContainer(f"c{each}", pid))
    discovery = Discovery([EngineConfig("containerd", str(fake.path))], view)
    discovery.start()
    try:
        assert discovery.wait_listed(deadline(20))
        assert len(discovery.collection) == number
        # Another listing may have followed.
        assert fake.calls.count("Tasks/List") <= 2
    finally:
        discovery.stop()
