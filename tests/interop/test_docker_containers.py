"""Containers of a real Docker engine, started here: seen before their first instruction."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
from support.busybox import import_image
from support.engine import Engine, needed_engine, own_engine
from support.waiting import deadline, wait_for

from ig_py.containers.collection import Event, EventType
from ig_py.containers.discovery import Discovery
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.learnt_roots import LearntRoots
from ig_py.containers.model import Container
from ig_py.containers.runtime_executions import RuntimeExecutions

pytestmark = pytest.mark.needs("root", "engine", "busybox")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path leaves room for the sockets of an engine in it (107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="ig") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with needed_engine(tmp_path_factory.mktemp("engine")) as started:
        yield started


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    with contextlib.closing(engine.client()) as found:
        import_image(found)
        yield found


@dataclass(frozen=True)
class Seen:
    at: float
    kind: EventType
    container: Container
    comm: str


class Watcher:
    """Records every event, and what init was executing at that moment."""

    def __init__(self, discovery: Discovery) -> None:
        self.discovery = discovery
        self.seen: list[Seen] = []
        discovery.collection.subscribe(self, self._on)

    def _on(self, event: Event) -> None:
        comm = ""
        with contextlib.suppress(OSError):
            comm = Path(f"/proc/{event.container.runtime.pid}/comm").read_text().strip()
        self.seen.append(Seen(time.time(), event.type, event.container, comm))

    def of(self, name: str) -> list[Seen]:
        return [s for s in self.seen if s.container.runtime.container_name == name]

    def kinds(self, name: str) -> list[str]:
        return [s.kind.value for s in self.of(name) if s.kind is not EventType.EXPIRED]

    def until(self, name: str, *kinds: str) -> None:
        wait_for(lambda: self.kinds(name) == list(kinds), f"{name}: {kinds}", 30, 0.02)


@contextlib.contextmanager
def watching(socket: Path) -> Iterator[Watcher]:
    discovery = Discovery([EngineConfig("docker", str(socket))])
    watcher = Watcher(discovery)
    discovery.start()
    try:
        assert discovery.wait_listed(deadline(30))
        yield watcher
    finally:
        discovery.stop()


def run(client: docker.DockerClient, name: str, *argv: str, network: str = "none") -> None:
    client.containers.run(
        "ig-py-busybox:local", list(argv), name=name, network_mode=network, detach=True
    )


def remove(client: docker.DockerClient, *names: str) -> None:
    for name in names:
        client.containers.get(name).remove(force=True)


def test_running_containers_are_listed_as_the_engine_knows_them(
    engine: Engine, client: docker.DockerClient
) -> None:
    run(client, "old", "sleep", "300")
    client.containers.create("ig-py-busybox:local", ["true"], name="never", network_mode="none")
    truth = client.api.inspect_container("old")
    pid = truth["State"]["Pid"]
    with watching(engine.socket) as watcher:
        found = watcher.discovery.collection.get(truth["Id"])
        assert len(watcher.discovery.collection) == 1
    assert found is not None
    assert found.runtime.container_name == "old"
    assert found.runtime.pid == pid
    assert found.runtime.image_name == "ig-py-busybox:local"
    assert found.runtime.image_id == truth["Image"]
    assert found.runtime.image_digest == ""
    assert found.mntns == Path(f"/proc/{pid}/ns/mnt").stat().st_ino
    assert found.mntns != Path("/proc/self/ns/mnt").stat().st_ino
    assert found.netns == Path(f"/proc/{pid}/ns/net").stat().st_ino
    assert not found.host_network
    assert truth["Id"] in (found.cgroup_v1 or found.cgroup_v2)
    remove(client, "old", "never")


def test_a_container_is_known_before_its_first_instruction(
    engine: Engine, client: docker.DockerClient
) -> None:
    with watching(engine.socket) as watcher:
        for number in range(10):
            run(client, f"short{number}", "/bin/true")
        for number in range(10):
            watcher.until(f"short{number}", "CREATED", "DELETED")
    for number in range(10):
        created = watcher.of(f"short{number}")[0]
        # init still executes the runtime's program, which waits for the start command.
        assert created.comm.startswith(("runc", "crun")), created.comm
        assert created.container.mntns
        assert created.container.runtime.image_name == "ig-py-busybox:local"
    remove(client, *(f"short{n}" for n in range(10)))


def test_a_stopped_container_that_starts_again(engine: Engine, client: docker.DockerClient) -> None:
    run(client, "again", "sleep", "300")
    with watching(engine.socket) as watcher:
        watcher.until("again", "CREATED")
        container = client.containers.get("again")
        container.restart(timeout=0)
        watcher.until("again", "CREATED", "DELETED", "CREATED")
        first, _, second = (s for s in watcher.of("again") if s.kind is not EventType.EXPIRED)
        assert second.container.runtime.pid != first.container.runtime.pid
        # The first one's namespace is still pinned: its number cannot come back yet.
        assert second.container.mntns != first.container.mntns
        truth = client.api.inspect_container("again")
        assert second.container.runtime.pid == truth["State"]["Pid"]
        container.rename("renamed")
        watcher.until("renamed", "UPDATED")
        container.kill()
        watcher.until("renamed", "UPDATED", "DELETED")
        container.start()
        watcher.until("renamed", "UPDATED", "DELETED", "CREATED")
        assert watcher.of("renamed")[-1].comm.startswith(("runc", "crun"))
    remove(client, "renamed")


def test_host_network_and_host_pids(engine: Engine, client: docker.DockerClient) -> None:
    with watching(engine.socket) as watcher:
        run(client, "hostnet", "sleep", "300", network="host")
        client.containers.run(
            "ig-py-busybox:local",
            ["sleep", "300"],
            name="hostpid",
            network_mode="none",
            pid_mode="host",
            detach=True,
        )
        watcher.until("hostnet", "CREATED")
        watcher.until("hostpid", "CREATED")
        assert watcher.of("hostnet")[0].container.host_network
        for name in ("hostnet", "hostpid"):
            truth = client.api.inspect_container(name)["State"]["Pid"]
            assert watcher.of(name)[0].container.runtime.pid == truth
    with watching(engine.socket) as watcher:
        for name in ("hostnet", "hostpid"):
            truth = client.api.inspect_container(name)["State"]["Pid"]
            assert watcher.of(name)[0].container.runtime.pid == truth
    remove(client, "hostnet", "hostpid")


@pytest.mark.parametrize("how", ["asked", "learnt"])
def test_creation_is_announced_below_an_exec_root_of_its_own(
    engine: Engine, client: docker.DockerClient, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "asked":
        monkeypatch.setattr(RuntimeExecutions, "start", lambda _: None)
    else:
        monkeypatch.setattr(LearntRoots, "told", lambda *_: None)
    config = EngineConfig("docker", str(engine.socket))
    discovery = Discovery([config], unmanaged=True, oci_configs=True)
    seen: list[tuple[str, str]] = []
    discovery.collection.subscribe("test", lambda e: seen.append((e.type.value, e.container.id)))
    discovery.start()
    try:
        assert discovery.wait_listed(10)
        if how == "asked":
            watched = discovery.unmanaged.status
            wait_for(lambda: "exec/runtime-runc/" in watched()[1], "asked", 10, 0.01)
        for name in ("ig-first", "ig-second"):
            run(client, name, "sleep", "100")
            container = client.containers.get(name).id
            wait_for(lambda: ("CREATED", container) in seen, "created", 10, 0.01)  # noqa: B023
            kinds = [kind for kind, found in seen if found == container]
            assert kinds[:2] == ["PRECREATE", "CREATED"]
            assert kinds.count("PRECREATE") == 1
    finally:
        discovery.stop()
        remove(client, "ig-first", "ig-second")


def test_a_container_that_cannot_start_is_not_reported_as_running(
    engine: Engine, client: docker.DockerClient
) -> None:
    with watching(engine.socket) as watcher:
        with pytest.raises(docker.errors.APIError):
            run(client, "broken", "/bin/nothing-of-the-kind")
        run(client, "whole", "/bin/true")
        watcher.until("whole", "CREATED", "DELETED")
        # runc finds out in the container's init, which is there for a moment.
        assert watcher.kinds("broken") in ([], ["CREATED", "DELETED"])
    remove(client, "broken", "whole")


def test_commands_executed_in_a_container_change_nothing(
    engine: Engine, client: docker.DockerClient
) -> None:
    with watching(engine.socket) as watcher:
        run(client, "exec", "sleep", "300")
        watcher.until("exec", "CREATED")
        for _ in range(3):
            assert client.containers.get("exec").exec_run(["true"]).exit_code == 0
        assert watcher.kinds("exec") == ["CREATED"]
    remove(client, "exec")


def test_a_stopped_engine_process_delays_nothing(
    short_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SIGSTOP to an engine: exits are still seen, stop is prompt; SIGCONT: all goes on."""
    caplog.set_level(logging.DEBUG, "ig_py")
    with (
        needed_engine(short_path) as engine,
        contextlib.closing(engine.client()) as client,
    ):
        import_image(client)
        run(client, "one", "sleep", "300")
        pid = client.api.inspect_container("one")["State"]["Pid"]
        engine_pid = int((short_path / "docker.pid").read_text())
        with watching(engine.socket) as watcher:
            watcher.until("one", "CREATED")
            subprocess.run(["kill", "-STOP", str(engine_pid)], check=True)
            try:
                subprocess.run(["kill", "-9", str(pid)], check=True)
                watcher.until("one", "CREATED", "DELETED")
                begun = time.monotonic()
                watcher.discovery.stop()
                assert time.monotonic() - begun < deadline(1)
            finally:
                subprocess.run(["kill", "-CONT", str(engine_pid)], check=True)
    assert not {"ig-docker", "ig-containers"} & {t.name for t in threading.enumerate()}


def test_an_engine_that_stops_and_comes_back(short_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        discovery = Discovery([EngineConfig("docker", str(short_path / "docker.sock"))])
        stack.callback(discovery.stop)
        watcher = Watcher(discovery)
        discovery.start()
        with needed_engine(short_path) as engine:
            with contextlib.closing(engine.client()) as client:
                import_image(client)
                run(client, "one", "sleep", "300")
            watcher.until("one", "CREATED")
        watcher.until("one", "CREATED", "DELETED")
        wait_for(lambda: not discovery.engines.answers(), "noticed", 10)
        with own_engine(short_path) as engine:
            wait_for(lambda: discovery.engines.answers(), "connected again", 30)
            with contextlib.closing(engine.client()) as client:
                run(client, "later", "/bin/true")
                watcher.until("later", "CREATED", "DELETED")
                remove(client, "later")
        assert watcher.kinds("one") == ["CREATED", "DELETED"]
