"""The Docker client against an engine that only pretends (support/fake_docker.py)."""

from __future__ import annotations

import gc
import json
import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.fake_docker import DIGEST, IMAGE, FakeContainer, FakeDocker, container_id, fake_docker
from support.fake_proc import OneInit
from support.waiting import deadline, wait_for

from ig_py.containers.discovery import Discovery
from ig_py.containers.engines import docker_http
from ig_py.containers.engines import engine as engine_module
from ig_py.containers.engines.config import EngineConfig
from ig_py.host import proc

Spawn = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Processes to play the containers' init."""
    children: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        children.append(subprocess.Popen(["sleep", "300"]))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeDocker]:
    with fake_docker(tmp_path) as fake:
        yield fake


class Watcher:
    def __init__(self, discovery: Discovery) -> None:
        self.discovery = discovery
        self.events: list[tuple[str, str]] = []
        discovery.collection.subscribe(
            self, lambda e: self.events.append((e.type.value, e.container.runtime.container_name))
        )

    def until(self, *events: tuple[str, str]) -> None:
        wait_for(lambda: self.events == list(events), f"{events}, not {self.events}", 10, 0.01)


@contextmanager
def watching(
    path: Path, *, explicit: bool = False, view: proc.HostView | None = None
) -> Iterator[Watcher]:
    discovery = Discovery([EngineConfig("docker", str(path), explicit)], view)
    watcher = Watcher(discovery)
    discovery.start()
    try:
        yield watcher
    finally:
        discovery.stop()


def running(engine: FakeDocker, number: int, name: str, spawn: Spawn) -> FakeContainer:
    container = FakeContainer(container_id(number), name, pid=spawn().pid)
    engine.add(container)
    return container


def test_the_first_listing(engine: FakeDocker, spawn: Spawn) -> None:
    container = running(engine, 1, "one", spawn)
    engine.add(FakeContainer(container_id(2), "stopped"))
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
        found = watcher.discovery.collection.get(container.id)
    assert watcher.events == [("CREATED", "one")]
    assert found is not None
    assert found.runtime.name == "docker"
    assert found.runtime.pid == container.pid
    assert found.runtime.image_name == "bb:latest"
    assert found.runtime.image_id == IMAGE
    assert found.runtime.image_digest == DIGEST
    assert found.runtime.started_at == Path(f"/proc/{container.pid}").stat().st_mtime_ns
    assert found.mntns == Path("/proc/self/ns/mnt").stat().st_ino
    assert found.netns == Path("/proc/self/ns/net").stat().st_ino


def test_events_in_order(engine: FakeDocker, spawn: Spawn) -> None:
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
        init = spawn()
        container = FakeContainer(container_id(1), "one", pid=init.pid)
        engine.begin(container)
        watcher.until(("CREATED", "one"))
        engine.rename(container, "uno")
        watcher.until(("CREATED", "one"), ("UPDATED", "uno"))
        engine.event("start", container)
        init.kill()
        init.wait()
        engine.die(container)
        engine.die(container)
        engine.destroy(container)
        engine.destroy(container)
        watcher.until(("CREATED", "one"), ("UPDATED", "uno"), ("DELETED", "uno"))


def test_exit_is_seen_without_the_engine(engine: FakeDocker, spawn: Spawn) -> None:
    container = running(engine, 1, "one", spawn)
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
        engine.hang.set()
        subprocess.run(["kill", "-9", str(container.pid)], check=True)
        watcher.until(("CREATED", "one"), ("DELETED", "one"))


def test_exit_where_pids_are_of_another_namespace(
    engine: FakeDocker, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without pidfds, /proc is read and the engine's answer counts."""
    monkeypatch.setattr(proc.HostView, "same_pidns", False)
    init = spawn()
    seen = FakeContainer(container_id(1), "polled", pid=init.pid)
    engine.add(seen)
    said = running(engine, 2, "said", spawn)
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
        init.kill()
        init.wait()
        watcher.until(("CREATED", "polled"), ("CREATED", "said"), ("DELETED", "polled"))
        engine.die(said)
        watcher.until(
            ("CREATED", "polled"),
            ("CREATED", "said"),
            ("DELETED", "polled"),
            ("DELETED", "said"),
        )
        missed = running(engine, 3, "missed", spawn)
        engine.event("start", missed)
        wait_for(lambda: watcher.events[-1] == ("CREATED", "missed"), "started", 5, 0.01)
        del engine.containers[missed.id]
        engine.end_streams()
        wait_for(lambda: watcher.events[-1] == ("DELETED", "missed"), "resynced", 10, 0.01)


def test_a_late_die_event_of_an_earlier_start_ends_nothing(
    engine: FakeDocker, spawn: Spawn
) -> None:
    container = running(engine, 1, "one", spawn)
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
        engine.event("die", container)
        engine.begin(FakeContainer(container_id(2), "two", pid=spawn().pid))
        watcher.until(("CREATED", "one"), ("CREATED", "two"))


def test_a_restart_between_two_words_of_the_engine(engine: FakeDocker, spawn: Spawn) -> None:
    first = spawn()
    container = FakeContainer(container_id(1), "one", pid=first.pid)
    engine.add(container)
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
        first.kill()
        first.wait()
        container.pid = spawn().pid
        engine.event("die", container)
        engine.event("start", container)
        watcher.until(("CREATED", "one"), ("DELETED", "one"), ("CREATED", "one"))
        found = watcher.discovery.collection.get(container.id)
        assert found is not None and found.runtime.pid == container.pid


def test_the_engine_dies_and_comes_back(
    engine: FakeDocker, spawn: Spawn, caplog: pytest.LogCaptureFixture
) -> None:
    stays = running(engine, 1, "stays", spawn)
    goes_init = spawn()
    goes = FakeContainer(container_id(2), "goes", pid=goes_init.pid)
    engine.add(goes)
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
        wait_for(lambda: watcher.discovery.engines.answers(), "connected", 5, 0.01)
        engine.stop()
        wait_for(lambda: not watcher.discovery.engines.answers(), "noticed", 5, 0.01)
        goes_init.kill()
        goes_init.wait()
        goes.pid = 0
        new = running(engine, 3, "new", spawn)
        stays.name = "renamed"
        engine.start()
        watcher.until(
            ("CREATED", "stays"),
            ("CREATED", "goes"),
            ("DELETED", "goes"),
            ("UPDATED", "renamed"),
            ("CREATED", "new"),
        )
        assert watcher.discovery.collection.get(new.id) is not None
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


def test_an_engine_that_starts_later(tmp_path: Path, spawn: Spawn) -> None:
    fake = FakeDocker(tmp_path / "docker.sock")
    running(fake, 1, "one", spawn)
    with watching(fake.path) as watcher:
        assert watcher.discovery.wait_listed(5)
        assert not watcher.discovery.engines.answers()
        fake.start()
        try:
            watcher.until(("CREATED", "one"))
        finally:
            fake.stop()


def test_an_answer_that_was_waited_for_in_vain_is_told(
    engine: FakeDocker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine.hang.set()
    with watching(engine.path) as watcher:
        assert not watcher.discovery.wait_listed(0.1)
        engine.hang.clear()
        wait_for(lambda: watcher.discovery.engines.answers(), "connected", 5, 0.01)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"docker engine {str(engine.path)!a} answers"]


def test_an_absent_default_engine_is_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with watching(tmp_path / "none.sock") as watcher:
        assert watcher.discovery.wait_listed(5)
    assert caplog.records == []


def test_a_stream_cut_in_the_middle_of_an_event(engine: FakeDocker, spawn: Spawn) -> None:
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
        wait_for(engine.subscribers, "subscribed", 5, 0.01)
        engine.raw(b'{"Type":"container","Action":"sta')
        running(engine, 1, "one", spawn)
        engine.end_streams()
        watcher.until(("CREATED", "one"))


def test_events_split_and_joined_anyhow(engine: FakeDocker, spawn: Spawn) -> None:
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
        wait_for(engine.subscribers, "subscribed", 5, 0.01)
        lines = b""
        for number in (1, 2, 3):
            running(engine, number, f"n{number}", spawn)
            event = {
                "Type": "container",
                "Action": "start",
                "Actor": {"ID": container_id(number), "Attributes": {}},
            }
            lines += json.dumps(event).encode() + b"\r\n\n"
        for start in range(0, len(lines), 7):
            engine.raw(lines[start : start + 7])
        watcher.until(("CREATED", "n1"), ("CREATED", "n2"), ("CREATED", "n3"))


@pytest.mark.parametrize(
    "line",
    [
        b"[]\n",
        b"not json\n",
        b"{" * 20000 + b"\n",
        b'{"a":' * 50000 + b"\n",
        b"\xff\xfe\n",
    ],
    ids=["list", "words", "open", "deep", "bytes"],
)
def test_nonsense_in_the_stream_costs_a_reconnection(
    engine: FakeDocker, spawn: Spawn, line: bytes
) -> None:
    running(engine, 1, "one", spawn)
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
        wait_for(engine.subscribers, "subscribed", 5, 0.01)
        engine.raw(line)
        wait_for(lambda: engine.requests.count("/events") > 1, "asked again", 10, 0.01)
        wait_for(lambda: watcher.discovery.engines.answers(), "connected", 5, 0.01)
        engine.begin(FakeContainer(container_id(2), "two", pid=spawn().pid))
        watcher.until(("CREATED", "one"), ("CREATED", "two"))


def test_odd_events_are_passed_over(engine: FakeDocker, spawn: Spawn) -> None:
    odd: list[object] = [
        {},
        {"Type": "container"},
        {"Type": "container", "Action": "start"},
        {"Type": "container", "Action": "start", "Actor": {"ID": "../../x"}},
        {"Type": "container", "Action": "start", "Actor": {"ID": container_id(99)}},
        {"Type": "container", "Action": ["start"], "Actor": {"ID": container_id(1)}},
        {"Type": "image", "Action": "start", "Actor": {"ID": container_id(1)}},
        {"Type": "container", "Action": "rename", "Actor": {"ID": container_id(1)}},
        {"Type": "container", "Action": "create", "Actor": {"ID": container_id(98)}},
    ]
    running(engine, 1, "one", spawn)
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
        wait_for(engine.subscribers, "subscribed", 5, 0.01)
        for event in odd:
            engine.raw(json.dumps(event).encode() + b"\n")
        engine.raw(b"x" * (docker_http.MAX_EVENT + 1000) + b"\n")
        engine.begin(FakeContainer(container_id(2), "two", pid=spawn().pid))
        watcher.until(("CREATED", "one"), ("CREATED", "two"))
    assert engine.requests.count("/events") == 1


def test_hostile_names_and_labels_are_bounded(engine: FakeDocker, spawn: Spawn) -> None:
    hostile = FakeContainer(
        container_id(1),
        "\x1b[2J\ud800" + "n" * 100_000,
        pid=spawn().pid,
        image="i" * 100_000,
        labels={f"k{i}": "v" * 10_000 for i in range(2000)},
    )
    engine.add(hostile)
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(10)
        found = watcher.discovery.collection.get(hostile.id)
    assert found is not None
    assert found.runtime.container_name.startswith("\x1b[2J?n")
    assert 1000 < len(found.runtime.container_name) <= 1024
    assert len(json.dumps(found.to_json())) < 8192


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/version", b"{}"),
        ("/version", b'{"ApiVersion":"../../etc"}'),
        ("/version", b"no json"),
        ("/containers/json", b"{}"),
        ("/containers/json", b"[" * 100_000),
        ("/containers/json", b'[{"Id":5},null,"x",{"Id":"a/b"},['),
    ],
)
def test_wrong_answers_are_retried_and_said_once(
    engine: FakeDocker,
    spawn: Spawn,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: bytes,
) -> None:
    monkeypatch.setattr(engine_module, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(engine_module, "MAX_PAUSE", 0.05)
    engine.override[path] = lambda: body
    running(engine, 1, "one", spawn)
    with watching(engine.path, explicit=True) as watcher:
        assert watcher.discovery.wait_listed(5)
        assert not watcher.discovery.engines.answers()
        wait_for(lambda: engine.requests.count(path) > 2, "asked again", 10, 0.01)
        engine.override.clear()
        watcher.until(("CREATED", "one"))
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert path in warnings[0]


def test_an_endless_answer_is_cut_off(
    engine: FakeDocker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(docker_http, "MAX_ANSWER", 100_000)
    engine.override["/containers/json"] = lambda: b"[" + b'"x",' * 50_000 + b'"x"]'
    with watching(engine.path, explicit=True) as watcher:
        assert watcher.discovery.wait_listed(5)
    assert "exceeds 100000 bytes" in caplog.text


def test_an_inspect_that_fails_costs_one_container_only(engine: FakeDocker, spawn: Spawn) -> None:
    one = running(engine, 1, "one", spawn)
    running(engine, 2, "two", spawn)
    engine.override[f"/containers/{one.id}/json"] = lambda: b'{"Id":"somebody else"}'
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
    assert watcher.events == [("CREATED", "two")]


def test_a_dead_pid_is_no_container(engine: FakeDocker, spawn: Spawn) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    engine.add(FakeContainer(container_id(1), "dead", pid=child.pid))
    engine.add(FakeContainer(container_id(3), "huge", pid=2**40))
    running(engine, 2, "two", spawn)
    with watching(engine.path) as watcher:
        assert watcher.discovery.wait_listed(5)
    assert watcher.events == [("CREATED", "two")]


def threads() -> set[str]:
    return {t.name for t in threading.enumerate()}


def descriptors() -> int:
    # Objects of earlier tests that wait for the collector hold some.
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("moment", ["connecting", "listing", "following", "absent"])
def test_stop_is_prompt_and_leaves_nothing(engine: FakeDocker, spawn: Spawn, moment: str) -> None:
    running(engine, 1, "one", spawn)
    with watching(engine.path) as watcher:
        # Modules and caches of the first use are loaded now.
        assert watcher.discovery.wait_listed(5)
    engine.end_streams()
    wait_for(lambda: not engine.open_connections(), "handlers gone", 5, 0.01)
    engine.requests.clear()
    before = descriptors()
    path = engine.path if moment != "absent" else engine.path.with_name("none.sock")
    discovery = Discovery([EngineConfig("docker", str(path))])
    hanging = threading.Event()
    if moment == "connecting":
        engine.hang.set()
    elif moment == "listing":

        def hang() -> bytes:
            engine.hang.set()
            hanging.set()
            engine.wait_hanging()
            return b"[]"

        engine.override["/containers/json"] = hang
    discovery.start()
    if moment == "following":
        assert discovery.wait_listed(5)
        wait_for(engine.subscribers, "subscribed", 5, 0.01)
    elif moment == "connecting":
        wait_for(lambda: engine.requests, "asked", 5, 0.01)
    elif moment == "listing":
        assert hanging.wait(5)
    begun = time.monotonic()
    discovery.stop()
    assert time.monotonic() - begun < deadline(1)
    assert not {"ig-docker", "ig-containers"} & threads()
    engine.hang.clear()
    engine.end_streams()
    wait_for(lambda: descriptors() <= before, "descriptors closed", 5, 0.05)


def test_http_is_not_loaded_without_an_engine(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from ig_py.containers.engines.config import EngineConfig\n"
        "from ig_py.containers.discovery import Discovery\n"
        f"d = Discovery([EngineConfig('docker', {str(tmp_path / 'none')!r})])\n"
        "d.start(); assert d.wait_listed(5); d.stop()\n"
        "assert not {'docker', 'http', 'requests'} & set(sys.modules)\n"
    )
    import sys

    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=60)


def test_many_containers_started_fast_are_all_there(engine: FakeDocker, spawn: Spawn) -> None:
    init = spawn()
    with watching(engine.path, view=OneInit()) as watcher:
        assert watcher.discovery.wait_listed(5)
        wait_for(engine.subscribers, "subscribed", 5, 0.01)
        for number in range(200):
            engine.begin(FakeContainer(container_id(number), f"n{number}", pid=init.pid))
        wait_for(lambda: len(watcher.events) == 200, "all there", 30)
        init.kill()
        init.wait()
        wait_for(lambda: len(watcher.events) == 400, "all gone", 30)
    assert len(set(watcher.events)) == 400


@pytest.mark.parametrize("number", [10, 200])
def test_a_listing_asks_once_for_each_container(
    engine: FakeDocker, spawn: Spawn, number: int
) -> None:
    """Init is not found by a control group here: one call tells its pid, over one connection."""
    pid = spawn().pid
    # What began within the same tick of the clock as the call may have its number since then.
    wait_for(lambda: proc.HostView().began_before(pid, proc.boot_seconds()), "a tick", 5, 0.01)
    for each in range(number):
        engine.add(FakeContainer(container_id(each), f"c{each}", pid=pid))
    with watching(engine.path, view=OneInit()) as watcher:
        assert watcher.discovery.wait_listed(deadline(30))
        assert len(watcher.events) == number
    # The version, the events, the listing, the image, and how the engine is set up: twice.
    assert len(engine.requests) <= number + 6
    assert engine.accepted <= 3, engine.requests
