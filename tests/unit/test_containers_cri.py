"""The CRI client against an engine that only pretends (support/fake_cri.py)."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.fake_cri import DIGEST, FakeContainer, FakeCri
from support.waiting import deadline, wait_for

from ig_py.containers.discovery import Discovery
from ig_py.containers.engines import cri, engine, grpc_engine
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.engines.cri_parse import pid_of
from ig_py.containers.engines.protos import cri_pb2 as pb
from ig_py.containers.model import MAX_LABEL_VALUE

Spawn = Callable[[], int]
ONE, TWO = "1a" * 32, "2b" * 32
LABELS = {"io.kubernetes.container.name": "main", "io.kubernetes.pod.name": "pod-one"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(engine, "MAX_PAUSE", 0.1)


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
def fake(tmp_path: Path) -> Iterator[FakeCri]:
    started = FakeCri(tmp_path / "c.sock")
    started.start()
    yield started
    started.stop()


@contextmanager
def watching(
    path: Path, name: str = "cri-o", *, explicit: bool = False
) -> Iterator[tuple[Discovery, list[tuple[str, str]]]]:
    discovery = Discovery([EngineConfig(name, str(path), explicit, "cri")])
    events: list[tuple[str, str]] = []
    discovery.collection.subscribe(
        "test", lambda e: events.append((e.type.value, e.container.id[:2]))
    )
    discovery.start()
    try:
        yield discovery, events
    finally:
        discovery.stop()


@pytest.mark.parametrize(
    ("runtime", "name"), [("cri-o", "k8s_main_pod-one_shop_1111_2"), ("containerd", "main")]
)
def test_what_is_listed(fake: FakeCri, spawn: Spawn, runtime: str, name: str) -> None:
    pid = spawn()
    fake.add(FakeContainer(ONE, pid=pid, labels=LABELS))
    fake.add(FakeContainer(TWO))
    with watching(fake.path, runtime) as (discovery, events):
        assert discovery.wait_listed(10)
        assert events == [("CREATED", "1a")]
        found = discovery.collection.get(ONE)
    assert found is not None
    assert found.to_json()["runtime"] == {
        "runtimeName": runtime,
        "containerId": ONE,
        "containerName": name,
        "containerPid": pid,
        "containerImageName": "docker.io/library/bb:latest",
        "containerImageId": DIGEST,
        "containerImageDigest": DIGEST,
        "containerStartedAt": found.runtime.started_at,
    }
    assert found.to_json()["k8s"] == {
        "namespace": "shop",
        "podName": "pod-one",
        "podLabels": {"app": "x"},
        "containerName": "main",
        "podUID": "1111",
    }
    assert found.sandbox_id == "5a" * 32


def test_life_by_events(fake: FakeCri, spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cri, "FIRST_CHECK", 300)
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        wait_for(fake.subscribers, "subscribed", 5, 0.01)
        # A pod's sandbox has its own events.
        fake.event(pb.STARTED_EVENT, "5a" * 32)
        fake.event(pb.STARTED_EVENT, "../x")
        fake.begin(FakeContainer(ONE, pid=spawn()))
        wait_for(lambda: events == [("CREATED", "1a")], "created", 5, 0.01)
        assert not getattr(discovery.engines.clients[0], "polling", None)


def test_an_engine_without_events_is_asked_again(
    fake: FakeCri, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cri, "POLL_SECONDS", 0.02)
    fake.has_events = False
    fake.old_info = True
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        fake.add(FakeContainer(ONE, pid=spawn()))
        wait_for(lambda: events == [("CREATED", "1a")], "found", 5, 0.01)
        assert getattr(discovery.engines.clients[0], "polling", None)
        assert discovery.engines.clients[0].containers == 1
        fake.containers.clear()
        wait_for(lambda: discovery.engines.clients[0].containers == 0, "gone", 5, 0.01)


def test_an_engine_that_stops_and_comes_back(
    fake: FakeCri, spawn: Spawn, caplog: pytest.LogCaptureFixture
) -> None:
    fake.add(FakeContainer(ONE, pid=spawn()))
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        wait_for(fake.subscribers, "subscribed", 5, 0.01)
        fake.stop()
        wait_for(lambda: not discovery.engines.answers(), "noticed", 10, 0.01)
        assert events == [("CREATED", "1a")]
        fake.add(FakeContainer(TWO, pid=spawn()))
        fake.start()
        wait_for(lambda: events[1:] == [("CREATED", "2b")], "listed again", 10, 0.01)
    assert "waiting for it to come back" in caplog.text


@pytest.mark.parametrize("method", ["Version", "ListContainers", "ListPodSandbox"])
def test_wrong_answers_are_retried_and_said_once(
    fake: FakeCri, spawn: Spawn, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    fake.add(FakeContainer(ONE, pid=spawn()))
    fake.override[method] = lambda: b"\xff\xff\xff"
    with watching(fake.path, explicit=True) as (discovery, events):
        assert discovery.wait_listed(10)
        wait_for(lambda: fake.calls.count(method) > 2, "asked again", 10, 0.01)
        fake.override.clear()
        wait_for(lambda: events == [("CREATED", "1a")], "in the end", 10, 0.01)
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert method in warnings[0]


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"info": "["},
        {"info": "[]"},
        {"info": '{"pid": "7"}'},
        {"info": '{"pid": -1}'},
        {"info": '{"pid": 99999999999}'},
        {"info": "[" * 100_000},
        {"pid": "x"},
        {"pid": "9" * 100_000},
        {"pid": "٣"},
    ],
)
def test_odd_process_numbers(info: dict[str, str]) -> None:
    assert pid_of(info) == 0


def test_a_status_that_fails_costs_one_container_only(fake: FakeCri, spawn: Spawn) -> None:
    fake.add(FakeContainer("../../x", pid=spawn()))
    fake.add(FakeContainer(ONE, pid=2**31))
    fake.add(FakeContainer(TWO, "n" * 5000, pid=spawn(), labels={"k": "v" * 99_999}))
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        assert events == [("CREATED", "2b")]


def test_a_status_without_sense_costs_its_container_only(
    fake: FakeCri, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cri, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(cri, "FIRST_CHECK", 0.05)
    answers = [b"\xff\xff\xff"]
    good, bad = FakeContainer(ONE, pid=spawn()), FakeContainer(TWO, pid=spawn())

    def status(request: bytes) -> bytes:
        wanted = pb.ContainerStatusRequest.FromString(request).container_id
        if wanted == TWO and answers:
            return answers[0]
        return plain("ContainerStatus", request)

    plain = fake.answer
    monkeypatch.setattr(
        fake, "answer", lambda m, r: status(r) if m == "ContainerStatus" else plain(m, r)
    )
    fake.add(good)
    fake.add(bad)
    with watching(fake.path, explicit=True) as (discovery, events):
        assert discovery.wait_listed(10)
        assert discovery.engines.answers()
        wait_for(lambda: events == [("CREATED", "1a")], "the other one", 5, 0.01)
        answers.clear()
        wait_for(lambda: events[1:] == [("CREATED", "2b")], "in the end", 5, 0.01)


def test_a_malformed_event_leaves_listings(
    fake: FakeCri, spawn: Spawn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cri, "POLL_SECONDS", 0.05)
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        wait_for(fake.subscribers, "subscribed", 5, 0.01)
        fake.raw(b"\xff\xff\xff")
        fake.begin(FakeContainer(ONE, pid=spawn()))
        wait_for(lambda: events == [("CREATED", "1a")], "found", 5, 0.01)
        assert discovery.engines.answers()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_an_engine_that_dies_in_the_middle_of_an_event(
    fake: FakeCri, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_engine, "TIMEOUT_SECONDS", 0.5)
    told = FakeContainer(ONE, pid=spawn())
    with watching(fake.path, explicit=True) as (discovery, events):
        assert discovery.wait_listed(10)
        wait_for(fake.subscribers, "subscribed", 5, 0.01)
        fake.override["ListContainers"] = lambda: b"\x0a\xff\xff"
        fake.add(told)
        fake.event(pb.STARTED_EVENT, ONE)
        wait_for(lambda: not discovery.engines.answers(), "noticed", 10, 0.01)
        fake.stop()
        assert events == []
        fake.override.clear()
        fake.start()
        wait_for(lambda: events == [("CREATED", "1a")], "found after all", 10, 0.01)


def test_an_endless_answer_is_cut_off(
    fake: FakeCri, spawn: Spawn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(grpc_engine, "MAX_ANSWER", 64 * 1024)
    fake.add(FakeContainer(ONE, pid=spawn(), labels={"k": "v" * 100_000}))
    with watching(fake.path, explicit=True) as (discovery, events):
        assert discovery.wait_listed(10)
        assert not discovery.engines.answers()
        wait_for(lambda: fake.calls.count("ListContainers") > 2, "asked again", 10, 0.01)
        fake.containers.clear()
        wait_for(lambda: discovery.engines.answers(), "a short one", 10, 0.01)
        assert events == []
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


def test_hostile_names_and_labels_are_bounded(fake: FakeCri, spawn: Spawn) -> None:
    labels = {f"k{number}": "v" * 5000 for number in range(200)}
    labels["io.kubernetes.pod.name"] = "p\x1b[2J" * 2000
    fake.add(FakeContainer(ONE, "n" * 9999, spawn(), "../../etc", labels))
    with watching(fake.path) as (discovery, events):
        assert discovery.wait_listed(10)
        found = discovery.collection.get(ONE)
    assert events == [("CREATED", "1a")]
    assert found is not None
    assert found.sandbox_id == ""
    assert len(found.runtime.container_name) == len(found.k8s.container_name) == 1024
    assert len(found.k8s.pod_name) == MAX_LABEL_VALUE
    # Escaping is the output's work.
    assert found.k8s.pod_name.startswith("p\x1b[2J")


def test_a_slow_engine_holds_nothing_up(
    fake: FakeCri, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(grpc_engine, "TIMEOUT_SECONDS", 0.2)

    def slow() -> bytes:
        time.sleep(1)
        return b""

    fake.override["Version"] = slow
    with watching(fake.path, explicit=True) as (discovery, _):
        assert not discovery.wait_listed(0.05)
        begun = time.monotonic()
    assert time.monotonic() - begun < deadline(engine.JOIN_SECONDS)
    assert "did not stop" not in caplog.text
