"""Containers of a real podman, root's and a user's, with its service and without."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import features
from support.image_archive import NAME
from support.podman import Podman
from support.waiting import wait_for

from ig_py.containers.collection import Event
from ig_py.containers.discovery import Discovery
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.model import Container
from ig_py.containers.runtime_executions import RuntimeExecutions

pytestmark = pytest.mark.needs("root", "podman", "busybox")


NOBODY = 65534


@pytest.fixture(scope="module", params=[0, NOBODY], ids=["root", "user"])
def podman(request: pytest.FixtureRequest) -> Iterator[Podman]:
    with tempfile.TemporaryDirectory(prefix="ig") as path:
        found = Podman(Path(path), request.param)
        try:
            found.load()
            found.run("probe", "true", remove=True)
        except subprocess.CalledProcessError as error:
            features.lack("podman", f"it runs no containers: {error.stderr.strip()[-200:]}")
        yield found
        found.remove_all()


class Seen(list[tuple[str, Container]]):
    def on(self, event: Event) -> None:
        self.append((event.type.value, event.container))

    def kinds(self, name: str) -> list[str]:
        wanted = ("CREATED", "DELETED")
        return [k for k, c in self if c.runtime.container_name == name and k in wanted]


@contextmanager
def watching(socket: Path | None) -> Iterator[Seen]:
    configs = [EngineConfig("podman", str(socket), True)] if socket else []
    discovery = Discovery(configs, unmanaged=not socket)
    seen = Seen()
    discovery.collection.subscribe(seen.on, seen.on)
    discovery.start()
    try:
        assert discovery.wait_listed(30)
        yield seen
    finally:
        discovery.stop()


def test_creation_is_announced_below_a_root_that_its_command_line_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RuntimeExecutions, "start", lambda _: None)
    with tempfile.TemporaryDirectory(prefix="ig") as path:
        podman = Podman(Path(path), flags=(f"--runtime-flag=root={path}/state",))
        try:
            podman.load()
            with podman.service() as socket:
                config = EngineConfig("podman", str(socket), True)
                discovery = Discovery([config], oci_configs=True)
                seen = Seen()
                discovery.collection.subscribe(seen.on, seen.on)
                discovery.start()
                try:
                    assert discovery.wait_listed(30)
                    watched = discovery.unmanaged.status
                    wait_for(lambda: f"{path}/state" in watched()[1], "asked", 10, 0.01)
                    one = podman.run("rooted", "sleep", "1000")
                    wait_for(lambda: "CREATED" in seen.kinds("rooted"), "created", 10, 0.01)
                finally:
                    discovery.stop()
            assert [k for k, c in seen if c.id == one][:2] == ["PRECREATE", "CREATED"]
        finally:
            podman.remove_all()


def test_with_its_service(podman: Podman) -> None:
    early = podman.run("early", "sleep", "1000")
    with podman.service() as socket, watching(socket) as seen:
        wait_for(lambda: seen.kinds("early") == ["CREATED"], "listed", 10)
        podman.run("later", "sleep", "1000")
        wait_for(lambda: seen.kinds("later") == ["CREATED"], "created", 10)
        podman.call("rm", "--force", "--time=0", "later")
        wait_for(lambda: seen.kinds("later") == ["CREATED", "DELETED"], "deleted", 10)
        latest = [c for _, c in seen if c.id == early][-1]
    podman.remove_all()
    assert latest.runtime.name == "podman"
    assert latest.runtime.image_name == NAME
    assert latest.runtime.image_digest == ""
    assert latest.mntns and latest.runtime.pid


def test_without_its_service(podman: Podman) -> None:
    early = podman.run("early", "sleep", "1000")
    with watching(None) as seen:
        (container,) = [c for _, c in seen if c.id == early]
        assert podman.run("short", "echo", "hi", remove=True) == "hi"
        # A user's runtime keeps its state below /run/user, elsewhere it is not watched.
        if not podman.user:
            wait_for(lambda: seen.kinds("short") == ["CREATED", "DELETED"], "a short life", 10)
    podman.remove_all()
    assert (container.runtime.name, container.runtime.container_name) == ("podman", "early")
