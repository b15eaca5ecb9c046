"""The tracker: what a command has of the containers of this host, from start to stop."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.fake_docker import FakeContainer, container_id, fake_docker
from support.fake_proc import OneInit

from ig_py.containers.collection import Event
from ig_py.containers.selector import Selector
from ig_py.containers.tracker import ENGINE_PARAMS, ContainerTracker, TrackerSettings
from ig_py.errors import ContainerError, UsageError
from ig_py.host.proc import HostView


def settings(socket: Path, name: str = "") -> TrackerSettings:
    values = dict.fromkeys(ENGINE_PARAMS, "")
    values |= {"runtimes": "docker", "docker-socketpath": str(socket)}
    selector = Selector.parse(container_name=name)
    return TrackerSettings.from_params(values.__getitem__, HostView(), selector, oci_configs=False)


def test_the_selected_containers_and_their_names(tmp_path: Path) -> None:
    told: list[str] = []

    def hear(event: Event) -> None:
        told.append(f"{event.type.value} {event.container.runtime.container_name}")

    with subprocess.Popen(["sleep", "300"]) as child, fake_docker(tmp_path) as fake:
        fake.add(FakeContainer(container_id(1), "web", pid=child.pid))
        fake.add(FakeContainer(container_id(2), "db", pid=child.pid))
        tracker = ContainerTracker(settings(fake.path, "db"), OneInit())
        tracker.subscribe(hear)
        try:
            tracker.start()
            assert tracker.wait_listed(10)
            assert [c.runtime.container_name for c in tracker.containers()] == ["db"]
            assert sorted(told) == ["CREATED db", "CREATED web"]
            assert tracker.selects_some
            assert tracker.name_of(tracker.containers()[0].mntns) == "db"
            assert tracker.name_of(1) == ""
            assert not tracker.selects(1)
        finally:
            tracker.stop()
            child.kill()
    assert tracker.containers() == []


def test_an_engine_that_does_not_exist_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="no such socket"):
        settings(tmp_path / "none.sock")
    with pytest.raises(UsageError, match="rkt"):
        TrackerSettings.from_params(lambda _: "rkt", HostView(), oci_configs=False)


def test_a_discovery_that_cannot_start_is_an_error_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_self: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("ig_py.host.reactor.Reactor.start", refuse)
    tracker = ContainerTracker(TrackerSettings(), HostView())
    tracker.start_for_gadget(1)
    with pytest.raises(ContainerError, match="Too many open files"):
        tracker.wait_listed(1)
    tracker.stop()


def test_without_the_scout_the_run_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class CoreError(Exception):
        message = "no BTF"

        def __str__(self) -> str:
            return self.message

    def scout(*_: object) -> None:
        raise CoreError

    monkeypatch.setitem(
        sys.modules, "ig_py._core", SimpleNamespace(CoreError=CoreError, Scout=scout)
    )
    tracker = ContainerTracker(TrackerSettings(), HostView())
    tracker.start_for_gadget(1)
    with caplog.at_level(logging.WARNING):
        assert tracker.wait_listed(10)
        tracker.stop()
    assert "may be found late: no BTF" in caplog.text


def test_a_tracker_that_was_never_started_can_be_stopped() -> None:
    tracker = ContainerTracker(TrackerSettings(), HostView())
    tracker.stop()
    with pytest.raises(ContainerError, match="not started"):
        tracker.wait_listed(0)
