"""The collection: no container is lost or doubled, and removed ones are kept for a while."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from ig_py.containers.collection import ContainerCollection, Event, EventType
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.host.proc import Pins


def make(number: int, mntns: int = 0, netns: int = 0, name: str = "") -> Container:
    runtime = RuntimeInfo(container_id=f"c{number}", container_name=name or f"n{number}")
    return Container(runtime=runtime, mntns=mntns, netns=netns)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def pins() -> Pins:
    return Pins(os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY))


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def recorded(collection: ContainerCollection) -> list[tuple[str, str]]:
    events: list[tuple[str, str]] = []
    collection.subscribe(
        object(), lambda e: events.append((e.type.value, e.container.runtime.container_name))
    )
    return events


def test_life_of_a_container() -> None:
    clock = Clock()
    collection = ContainerCollection(grace=5, clock=clock)
    events = recorded(collection)
    assert collection.add(make(1, mntns=11, netns=21))
    assert not collection.add(make(1, mntns=12))
    assert collection.by_mntns(11) == collection.get("c1") == make(1, mntns=11, netns=21)
    assert collection.by_mntns(12) is None
    assert collection.update(make(1, name="renamed"))
    assert collection.by_mntns(11) == make(1, 11, 21, "renamed")
    assert not collection.update(make(9))
    assert collection.remove("c1")
    assert not collection.remove("c1")
    assert collection.get("c1") is None
    late = collection.by_mntns(11)
    assert late is not None and late.runtime.container_name == "renamed"
    clock.now += 4.9
    left = collection.expire()
    assert left is not None and abs(left - 0.1) < 1e-6
    assert collection.by_mntns(11) is not None
    clock.now += 0.2
    assert collection.expire() is None
    assert collection.by_mntns(11) is None
    assert events == [
        ("CREATED", "n1"),
        ("UPDATED", "renamed"),
        ("DELETED", "renamed"),
        ("EXPIRED", "renamed"),
    ]


def test_an_update_without_news_is_none() -> None:
    collection = ContainerCollection()
    events = recorded(collection)
    collection.add(make(1, mntns=1))
    assert collection.update(make(1))
    assert events == [("CREATED", "n1")]


def test_a_deleted_container_can_still_be_looked_up_by_subscribers() -> None:
    collection = ContainerCollection()
    seen: list[object] = []

    def on(event: Event) -> None:
        if event.type is EventType.DELETED:
            seen.append(collection.get(event.container.id))

    collection.add(make(1, mntns=1))
    collection.subscribe("k", on)
    collection.remove("c1")
    assert seen == [make(1, mntns=1)]


def test_restarted_under_the_same_id_within_the_grace_time() -> None:
    clock = Clock()
    collection = ContainerCollection(grace=5, clock=clock)
    collection.add(make(1, mntns=11, netns=21))
    collection.remove("c1")
    collection.add(make(1, mntns=12, netns=22))
    assert collection.by_mntns(11) is not None
    assert collection.by_mntns(12) is not None
    clock.now += 6
    collection.expire()
    assert collection.by_mntns(11) is None
    assert collection.by_mntns(12) is not None


def test_an_unknown_namespace_finds_no_container() -> None:
    collection = ContainerCollection()
    collection.add(make(1))
    assert collection.by_mntns(0) is None
    collection.remove("c1")
    collection.close()


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a\n"])
def test_bad_ids_are_refused_and_release_their_pins(
    bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = open_fds()
    collection = ContainerCollection()
    assert not collection.add(Container(runtime=RuntimeInfo(container_id=bad)), pins())
    assert open_fds() == before
    assert "left out" in caplog.text


def test_pins_are_held_through_the_grace_time_and_then_closed() -> None:
    clock = Clock()
    collection = ContainerCollection(grace=5, clock=clock)
    before = open_fds()
    collection.add(make(1, mntns=1), pins())
    collection.add(make(2, mntns=2), pins())
    collection.remove("c1")
    assert open_fds() == before + 4
    clock.now += 6
    collection.expire()
    assert open_fds() == before + 2
    collection.close()
    assert open_fds() == before
    assert not collection.add(make(3), pins())
    assert open_fds() == before


def test_a_failing_subscriber_does_not_affect_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    collection = ContainerCollection()

    def broken(event: Event) -> None:
        raise ValueError("broken")

    collection.subscribe("broken", broken)
    events = recorded(collection)
    collection.add(make(1))
    assert events == [("CREATED", "n1")]
    assert "broken" in caplog.text


def test_subscribers_joining_under_churn_miss_and_double_nothing() -> None:
    collection = ContainerCollection(grace=0)
    stop = threading.Event()
    threads_at_work = 3

    def churn(base: int) -> None:
        for number in range(base, base + 400):
            collection.add(make(number, mntns=number))
            if number % 2:
                collection.remove(f"c{number}")
                collection.expire()

    workers = [threading.Thread(target=churn, args=(i * 1000 + 1,)) for i in range(threads_at_work)]
    balances: list[Counter[str]] = []

    def join() -> None:
        while not stop.is_set():
            balance: Counter[str] = Counter()

            def on(event: Event, balance: Counter[str] = balance) -> None:
                if event.type is EventType.CREATED:
                    balance[event.container.id] += 1
                elif event.type is EventType.DELETED:
                    balance[event.container.id] -= 1

            collection.subscribe(id(balance), on)
            balances.append(balance)
            time.sleep(0.002)

    joiner = threading.Thread(target=join)
    joiner.start()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stop.set()
    joiner.join()
    live = {c.id for c in collection.containers()}
    assert len(live) == threads_at_work * 200
    assert balances
    for balance in balances:
        assert {id for id, n in balance.items() if n} == live
        assert set(balance.values()) <= {0, 1}


def test_no_call_after_unsubscribe() -> None:
    collection = ContainerCollection()
    events: list[Event] = []
    collection.subscribe("k", events.append)
    collection.unsubscribe("k")
    collection.unsubscribe("k")
    collection.add(make(1))
    assert events == []


def test_thousands_of_containers_in_one_network_namespace_take_linear_time() -> None:
    def seconds(count: int) -> float:
        collection = ContainerCollection(grace=0)
        begun = time.process_time()
        for number in range(count):
            collection.add(make(number, mntns=number + 1, netns=9))
        for number in range(count):
            collection.remove(f"c{number}")
        collection.expire()
        return time.process_time() - begun

    seconds(500)
    small = min(seconds(2000) for _ in range(3))
    large = min(seconds(16000) for _ in range(3))
    # Eight times the work: quadratic behaviour would take 64 times the time.
    assert large < small * 24
