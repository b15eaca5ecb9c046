"""Two thousand containers, fifty starts a second: time, memory and descriptors stay linear."""

from __future__ import annotations

import gc
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_proc import OneInit
from support.waiting import wait_for

from ig_py.containers.discovery import Discovery
from ig_py.containers.model import Container, RuntimeInfo

MANY = 2000
STARTS_A_SECOND = 50


@pytest.fixture
def pid() -> Iterator[int]:
    """A process that plays every container's init."""
    child = subprocess.Popen(["sleep", "300"])
    yield child.pid
    child.kill()
    child.wait()


@pytest.fixture
def discovery() -> Iterator[Discovery]:
    found = Discovery([], OneInit())
    found.start()
    assert found.wait_listed(10)
    yield found
    found.stop()


def container(number: int) -> Container:
    runtime = RuntimeInfo(
        name="docker", container_id=f"{number:064x}", container_name=f"container-{number}"
    )
    return Container(runtime=runtime)


def descriptors() -> int:
    # Objects of earlier tests that wait for the collector hold some.
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def start(discovery: Discovery, pid: int, begin: int, end: int) -> float:
    """CPU seconds a container."""
    before = time.process_time()
    for number in range(begin, end):
        discovery.started(container(number), pid)
    return (time.process_time() - before) / (end - begin)


def test_time_and_descriptors(discovery: Discovery, pid: int) -> None:
    events = []
    discovery.collection.subscribe("test", lambda e: events.append(e.type.value))
    before = descriptors()
    first = min(start(discovery, pid, n, n + 50) for n in range(0, MANY // 4, 50))
    start(discovery, pid, MANY // 4, MANY * 3 // 4)
    last = min(start(discovery, pid, n, n + 50) for n in range(MANY * 3 // 4, MANY, 50))
    assert len(discovery.collection) == MANY
    assert events == ["CREATED"] * MANY
    # A pidfd and two namespaces each.
    assert descriptors() - before <= 3 * MANY + 8
    # Processor time of this many starts a second; the last start costs no more than the first.
    assert last * STARTS_A_SECOND < 0.1
    assert last < first * 4 + 0.001


def test_all_end_at_once_and_nothing_stays(pid: int) -> None:
    before = descriptors()
    discovery = Discovery([], OneInit())
    discovery.start()
    assert discovery.wait_listed(10)
    ended = 0

    def count(event: object) -> None:
        nonlocal ended
        ended += getattr(event, "type").value == "DELETED"  # noqa: B009

    discovery.collection.subscribe("test", count)
    start(discovery, pid, 0, MANY // 2)
    subprocess.run(["kill", "-9", str(pid)], check=True)
    wait_for(lambda: ended == MANY // 2, "all ended", 20, 0.02)
    assert len(discovery.collection) == 0
    discovery.stop()
    wait_for(lambda: descriptors() <= before, "descriptors closed", 5, 0.05)


def test_memory(discovery: Discovery, pid: int) -> None:
    tracemalloc.start()
    try:
        start(discovery, pid, 0, 20)
        before = tracemalloc.get_traced_memory()[0]
        start(discovery, pid, 20, 220)
        each = (tracemalloc.get_traced_memory()[0] - before) / 200
    finally:
        tracemalloc.stop()
    assert each < 8 * 1024
