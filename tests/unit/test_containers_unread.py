"""While the host cannot be read, no source of containers says that there is none."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_proc import FakeHost
from support.waiting import wait_for

from ig_py.containers import cgroup_watch, state_dirs
from ig_py.containers import discovery as discovery_module
from ig_py.containers.cgroup_watch import CgroupWatch
from ig_py.containers.discovery import Discovery
from ig_py.containers.engines import unmanaged as unmanaged_module
from ig_py.containers.filter_map import FilterMap
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.containers.tracker import ContainerTracker, TrackerSettings
from ig_py.host.files import HostReadError
from ig_py.host.proc import HostView, boot_seconds
from ig_py.host.reactor import Reactor

ID = "cd" * 32
CONTAINER = Container(runtime=RuntimeInfo(name="docker", container_id=ID, container_name="web"))


class Shortage:
    """No descriptor is left for paths that end as told, while it lasts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *ends: str) -> None:
        self.on = True
        self.refused = 0
        really_open, really_list = os.open, os.listdir

        def refuse(path: Any) -> None:
            if self.on and str(path).endswith(ends):
                self.refused += 1
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

        def open_(path: Any, *arguments: Any, **more: Any) -> int:
            refuse(path)
            return really_open(path, *arguments, **more)

        def listdir(path: Any = ".") -> list[str]:
            refuse(path)
            return really_list(path)

        monkeypatch.setattr(os, "open", open_)
        monkeypatch.setattr(os, "listdir", listdir)


@pytest.fixture
def init() -> Iterator[int]:
    with subprocess.Popen(["sleep", "300"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def discovery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Discovery]:
    monkeypatch.setattr(discovery_module, "ADMIT_AGAIN_SECONDS", (0.05, 0.05, 0.05))
    found = Discovery([], HostView())
    found.start()
    yield found
    found.stop()


def test_an_init_that_cannot_be_held_is_tried_again(
    discovery: Discovery, init: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortage = Shortage(monkeypatch, "/ns/net")
    discovery.started(CONTAINER, init)
    assert discovery.collection.get(ID) is None
    shortage.on = False
    wait_for(lambda: discovery.collection.get(ID) is not None, "the container", 10, 0.01)
    assert discovery.view.failures.count >= 1


def test_a_container_that_can_never_be_held_is_told(
    discovery: Discovery,
    init: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    Shortage(monkeypatch, "/ns/net")
    discovery.started(CONTAINER, init)
    wait_for(lambda: "is not traced" in caplog.text, "the warning", 10, 0.01)
    assert discovery.view.failures.count == 4
    assert "Too many open files" in caplog.text


def test_an_engine_is_not_told_that_a_process_is_not_the_containers(
    discovery: Discovery, init: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert discovery.owns(ID, init, boot_seconds() + 1)
    assert not discovery.owns(ID, init, 1.0)
    Shortage(monkeypatch, f"/{init}/cgroup")
    with pytest.raises(HostReadError):
        discovery.owns(ID, init, boot_seconds())


def test_a_container_is_not_ended_while_its_process_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeHost(tmp_path)
    host.process(7)
    status = tmp_path / "proc/7/status"
    status.write_text(status.read_text() + "State:\tS (sleeping)\n")
    found = Discovery([], host.view)
    host.view.__dict__["same_pidns"] = False
    monkeypatch.setattr(HostView, "_pin", lambda *_: (-1, 0))
    found.started(CONTAINER, 7)
    assert found.collection.get(ID) is not None
    shortage = Shortage(monkeypatch, "/7/status", "/7/stat")
    found._live._look_at_processes()
    assert found.collection.get(ID) is not None
    assert shortage.refused
    shortage.on = False
    status.write_text("State:\tZ (zombie)\n")
    found._live._look_at_processes()
    assert found.collection.get(ID) is None
    found.stop()


@pytest.fixture
def unmanaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], Discovery]]:
    monkeypatch.setattr(unmanaged_module, "FIRST_POLL", 0.05)
    monkeypatch.setattr(unmanaged_module, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(state_dirs, "RESCAN_SECONDS", 0.1)
    monkeypatch.setattr(discovery_module, "ADMIT_AGAIN_SECONDS", ())
    host = FakeHost(tmp_path)
    host.process(20, parent=1, mntns="own", levels="1", cgroup=f"/x/{ID}", start=9)
    found = Discovery([], host.view, unmanaged=True)
    told: list[Container] = []

    def begin() -> Discovery:
        found.start()
        return found

    monkeypatch.setattr(
        found, "_admit_now", lambda container, *_a, **_o: told.append(container) or True
    )
    found.told = told  # type: ignore[attr-defined]
    found.files = tmp_path  # type: ignore[attr-defined]
    yield begin
    found.stop()


def ids(found: Any) -> set[str]:
    return {container.id for container in found.told}


@pytest.mark.parametrize("what", ["/proc", "/20/status", "/20/cgroup"])
def test_processes_that_cannot_be_read_are_looked_at_again(
    unmanaged: Callable[[], Discovery], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortage = Shortage(monkeypatch, what)
    found = unmanaged()
    wait_for(lambda: shortage.refused > 1, "two looks", 10, 0.01)
    assert ids(found) == set()
    shortage.on = False
    wait_for(lambda: ids(found) == {ID}, "the container", 10, 0.01)
    assert found.view.failures.count


@pytest.mark.parametrize("what", ["/20/stat", "/20/status"])
def test_state_that_cannot_be_read_is_looked_at_again(
    unmanaged: Callable[[], Discovery],
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Processes alone do not tell of this container.
    (tmp_path / "proc/20/cgroup").write_text("0::/\n")
    directory = tmp_path / "run/runc/box"
    directory.mkdir(parents=True)
    state = {"init_process_pid": 20, "init_process_start": 9, "config": {"labels": []}}
    (directory / "state.json").write_text(json.dumps(state))
    shortage = Shortage(monkeypatch, what)
    found = unmanaged()
    wait_for(lambda: found.view.failures.count > 1, "two looks", 10, 0.01)
    assert ids(found) == set()
    shortage.on = False
    wait_for(lambda: ids(found) == {"box"}, "the container", 10, 0.01)


def test_a_directory_of_state_that_cannot_be_opened_is_looked_at_again(
    unmanaged: Callable[[], Discovery], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proc/20/cgroup").write_text("0::/\n")
    directory = tmp_path / "run/runc/box"
    directory.mkdir(parents=True)
    state = {"init_process_pid": 20, "init_process_start": 9, "config": {"labels": []}}
    (directory / "state.json").write_text(json.dumps(state))
    from ig_py.host import safe_open

    really, short = safe_open.open_path, True

    def open_path(root: int, path: str, resolve: Any) -> int:
        if short and path == "runc":
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        return really(root, path, resolve)

    monkeypatch.setattr(safe_open, "open_path", open_path)
    found = unmanaged()
    wait_for(lambda: found.view.failures.count > 1, "two looks", 10, 0.01)
    assert ids(found) == set()
    short = False
    wait_for(lambda: ids(found) == {"box"}, "the container", 10, 0.01)


def test_a_control_group_that_cannot_be_read_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup_watch, "GIVE_UP_SECONDS", 0.2)
    host = FakeHost(tmp_path)
    host.view.__dict__["same_pidns"] = True
    host.process(20, parent=1, mntns="own", levels="1")
    base = tmp_path / "sys/fs/cgroup"
    (base / "docker").mkdir(parents=True)
    (base / "cgroup.controllers").touch()
    shortage = Shortage(monkeypatch, "cgroup.procs")
    found: list[tuple[str, int]] = []
    reactor = Reactor("test")
    watch = CgroupWatch(host.view, reactor, lambda name, pid, *_: found.append((name, pid)))
    watch.start()
    reactor.start()
    try:
        for name in (ID, "ab" * 32):
            (base / "docker" / name).mkdir()
            (base / "docker" / name / "cgroup.procs").write_text("20\n")
            if name == ID:
                wait_for(lambda: shortage.refused > 1, "two looks", 10, 0.001)
                shortage.on = False
                wait_for(lambda: found == [(ID, 20)], "its init", 10, 0.001)
                assert host.view.failures.count == 0
                shortage.on = True
        wait_for(lambda: host.view.failures.count == 1, "it is counted", 10, 0.01)
    finally:
        reactor.stop()
        watch.stop()
    assert found == [(ID, 20)]


def test_what_was_not_read_fails_a_run_that_must_not_lose(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    view = HostView()
    tracker = ContainerTracker(TrackerSettings(), view)
    view.failures.add(HostReadError("/proc/1/status", OSError(errno.EIO, "Input/output error")))
    assert tracker.unseen() == {}, "without a filter every event is there"
    monkeypatch.setattr(tracker, "_filter", object.__new__(FilterMap))
    assert sum(tracker.unseen().values()) == 1
    discovery = Discovery([], view)
    try:
        with caplog.at_level(logging.WARNING):
            tracker._say_account(discovery)
    finally:
        discovery.stop()
    assert "1 times the host could not be read" in caplog.text
