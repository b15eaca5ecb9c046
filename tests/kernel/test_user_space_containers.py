"""Processes and limits of Docker containers, reported by gadgets without programs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from support.busybox import import_image
from support.engine import Engine, needed_engine
from support.gadget_format import GADGETS
from support.running_gadget import RunningGadget, of_docker
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "engine", "busybox"),
    pytest.mark.any_kernel,
    pytest.mark.timeout(300),
]

IMAGE = "ig-py-busybox:user-space"
BUSY = ["sh", "-c", "while :; do :; done"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with needed_engine(tmp_path_factory.mktemp("engine")) as engine:
        with contextlib.closing(engine.client()) as client:
            import_image(client, IMAGE)
        yield engine


def container(engine: Engine, name: str, **options: Any) -> AbstractContextManager[str]:
    return engine.container(IMAGE, BUSY, name, **options)


def running(tmp_path: Path, engine: Engine, gadget: str, *arguments: str) -> RunningGadget:
    return of_docker(tmp_path / "run", engine.socket, str(GADGETS / gadget), *arguments)


def elements(run: RunningGadget) -> list[dict[str, Any]]:
    return [element for array in run.events() for element in array]  # type: ignore[attr-defined]


def test_processes_of_one_container(tmp_path: Path, engine: Engine) -> None:
    with (
        container(engine, "ig-py-busy") as busy,
        container(engine, "ig-py-other"),
        running(tmp_path, engine, "process_table", "-c", "ig-py-busy", "--sort=-cpuUsage") as run,
    ):
        wait_for(lambda: run.out.count(busy) >= 2, "the container is told", 30)
        assert run.end() == 0
    found = elements(run)
    assert {e["runtime"]["containerName"] for e in found} == {"ig-py-busy"}
    assert {e["comm"] for e in found} == {"sh"}
    assert max(e["cpuUsage"] for e in found) > 0
    assert {e["pid"] for e in found} == {e["runtime"]["containerPid"] for e in found}


def test_all_processes_are_reported_without_a_selection(tmp_path: Path, engine: Engine) -> None:
    with (
        container(engine, "ig-py-busy") as busy,
        running(tmp_path, engine, "process_table") as run,
    ):
        wait_for(lambda: busy in run.out, "the container is told", 30)
        assert run.end() == 0
    assert {"", "ig-py-busy"} <= {e["runtime"]["containerName"] for e in elements(run)}


@pytest.mark.needs("cpu_limits")
def test_a_throttled_container(tmp_path: Path, engine: Engine) -> None:
    with (
        container(engine, "ig-py-slow", cpu_period=20_000, cpu_quota=2_000) as slow,
        running(tmp_path, engine, "cpu_limits", "-c", "ig-py-slow") as run,
    ):
        wait_for(lambda: slow in run.out, "the container is told", 30)
        assert run.end() == 0
    [name] = {e["runtime"]["containerName"] for e in elements(run)}
    assert name == "ig-py-slow"
    event = elements(run)[-1]
    assert event["cpuLimitCores"] == 0.1
    assert event["nrThrottled"] > 0
    assert slow in event["cgroupPath"]
