"""Rings and perf buffers drained from the real kernel: every event is accounted for."""

from __future__ import annotations

import gc
import json
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.bpf_build import compile_object
from support.bpf_ids import ids
from support.core_plans import PlanMaker
from support.pumping import next_batches
from support.waiting import deadline, wait_for

from ig_py._core import CoreError, Map, Object, Stream

pytestmark = pytest.mark.needs("root", "bpf", "clang", "ringbuf")

HASH = 1
SAMPLE = 64
PID_AT, BURST_AT, PERF_AT, MNTNS_AT = 0, 4, 8, 16


class Source:
    """The stress object, attached and streaming; :meth:`fire` produces events."""

    def __init__(self, elf: bytes, plan: str, **settings: int) -> None:
        self.produced_map = Map.create("produced", HASH, 4, 8, 8)
        self.produced_map.update(bytes(4), bytes(8))
        self.object = Object(elf, "stress")
        for program in self.object.programs():
            self.object.set_autoload(program["name"], program["name"] == "on_enter")
        self.object.reuse_map("produced", self.produced_map)
        if "entries" in settings:
            self.object.set_max_entries("events", settings["entries"])
        for offset, key, default in (
            (PID_AT, "pid", os.getpid()),
            (BURST_AT, "burst", 1),
            (PERF_AT, "perf", 0),
        ):
            value = struct.pack("I", settings.get(key, default))
            self.object.set_data(".rodata", offset, value)
        self.object.set_data(".rodata", MNTNS_AT, struct.pack("Q", settings.get("mntns", 0)))
        self.object.load()
        self.stream: Stream = self.object.stream(plan)
        self.object.attach("on_enter")
        self.sequences: list[int] = []

    def fire(self, times: int) -> None:
        for _ in range(times):
            os.getppid()

    @property
    def produced(self) -> int:
        value = self.produced_map.lookup(bytes(4))
        assert value is not None
        return int(struct.unpack("Q", value)[0])

    def collect(self, timeout_ms: int = 0) -> int:
        """Drains until nothing is there; returns the events taken."""
        total = 0
        while batches := next_batches(self.stream, timeout_ms):
            for batch in batches:
                total += batch.events
                lines = batch.data.splitlines()
                assert len(lines) == batch.events
                self.sequences += [json.loads(line)["sequence"] for line in lines]
        return total

    def counters(self) -> dict[str, Any]:
        return dict(self.stream.counters()["x"])

    def close(self) -> None:
        self.object.close()
        self.stream.close()
        self.produced_map.close()


def plan(map_name: str = "events", loss: dict[str, Any] | None = None, **more: Any) -> str:
    maker = PlanMaker(SAMPLE)
    maker.field("sequence", "u64", 0, 8)
    mntns = maker.field("mntns_id", "u64", 8, 8)
    maker.field("pid", "u32", 16, 4)
    maker.field("text", "char", 20, 44)
    container = maker.slot("container")
    maker.step("container", mntns=mntns, netns=None, fields={"runtime.containerName": container})
    maker.datasource["map"] = map_name
    maker.datasource |= {"loss_map": "events_lost_samples"} if loss is None else loss
    maker.datasource |= more
    return maker.text()


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_object("core/stress.bpf.c", tmp_path_factory.mktemp("stress"))


@pytest.fixture
def source(elf: bytes) -> Iterator[Callable[..., Source]]:
    made: list[Source] = []

    def make(plan: str, **settings: int) -> Source:
        made.append(Source(elf, plan, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_events_arrive_in_order_and_in_time(source: Callable[..., Source]) -> None:
    s = source(plan(), entries=1 << 20)
    assert next_batches(s.stream, 0) == []
    start = time.monotonic()
    threading.Timer(0.05, s.fire, [3]).start()
    batches = next_batches(s.stream, int(deadline(5) * 1000))
    assert time.monotonic() - start < deadline(2)
    assert batches and batches[0].datasource == "x"
    first = json.loads(batches[0].data.splitlines()[0])
    assert first == {
        "sequence": 0,
        "mntns_id": 0,
        "pid": os.getpid(),
        "text": "hi",
        "container": "",
    }
    s.sequences += [json.loads(x)["sequence"] for b in batches for x in b.data.splitlines()]
    wait_for(lambda: s.collect() or len(s.sequences) == 3, "three events", 5)
    assert s.sequences == [0, 1, 2]
    with pytest.raises(CoreError) as failure:
        batches[0].rows()
    assert failure.value.kind == "plan"


def _waits(stream: Stream, seconds: float) -> int:
    """How often a thread that pumps waits in that time."""
    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(threading.get_native_id).result()
        status = Path(f"/proc/self/task/{thread}/status")
        pumped = pool.submit(stream.pump, lambda _batch: None, None)
        time.sleep(0.3)
        before = _voluntary(status)
        time.sleep(seconds)
        found = _voluntary(status) - before
        stream.wake()
        pumped.result()
    return found


def _voluntary(status: Path) -> int:
    line = next(x for x in status.read_text().splitlines() if x.startswith("voluntary_"))
    return int(line.split()[1])


def test_at_rest_nothing_wakes_the_reader(source: Callable[..., Source]) -> None:
    assert _waits(source(plan(), entries=1 << 20).stream, 2.5) == 0


@pytest.mark.needs("native_processor")
def test_samples_that_wake_nobody_are_looked_for(tmp_path: Path) -> None:
    """BPF_RB_NO_WAKEUP is 1. In a guest each look waits for the file system of its host, too: the
    zone's file is looked at."""
    s = Source(compile_object("core/stress.bpf.c", tmp_path, "SUBMIT_FLAGS=1"), plan(), burst=3)
    try:
        threading.Timer(0.1, s.fire, [1]).start()
        wait_for(lambda: s.collect(1500), "events that woke nobody", 5)
        assert s.sequences == [0, 1, 2]
        assert 1 <= _waits(s.stream, 2.5) <= 4
    finally:
        s.close()


@pytest.mark.parametrize("loss", ["map", "var"])
@pytest.mark.parametrize("burst", [1, 7, 500])
def test_every_event_is_emitted_or_counted_lost(
    source: Callable[..., Source], elf: bytes, burst: int, loss: str
) -> None:
    """A ring of one page, a reader that sleeps, runs and sleeps again."""
    where: dict[str, Any] = {"loss_map": "events_lost_samples"}
    if loss == "var":
        where = {"loss_var": {"section": ".bss", "offset": 24}}
    s = source(plan(loss=where), burst=burst)
    emitted = 0
    for round_ in range(20):
        s.fire(1 + 5 * (round_ % 4))
        if round_ % 3:
            emitted += s.collect()
    s.object.detach()
    emitted += s.collect()
    counters = s.counters()
    assert s.produced == burst * sum(1 + 5 * (i % 4) for i in range(20))
    assert emitted == counters["emitted"] == counters["received"] == len(s.sequences)
    assert counters["emitted"] + counters["lost"] + counters["discarded"] == s.produced
    assert s.sequences == sorted(set(s.sequences))
    if burst == 500:
        assert counters["lost"] > 0
    assert s.counters() == counters


def test_exact_with_a_reader_at_full_speed(source: Callable[..., Source]) -> None:
    s = source(plan(), entries=1 << 13, burst=20)
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            s.collect(timeout_ms=20)

    reader = threading.Thread(target=read)
    reader.start()
    s.fire(5000)
    s.object.detach()
    done.set()
    s.stream.wake()
    reader.join(deadline(10))
    s.collect()
    counters = s.counters()
    assert s.produced == 100_000
    assert counters["emitted"] == len(s.sequences) > 0
    assert counters["emitted"] + counters["lost"] == s.produced


def test_a_large_ring_loses_nothing(source: Callable[..., Source]) -> None:
    s = source(plan(), entries=8 << 20, burst=1000)
    s.fire(50)
    assert s.collect() == 50_000
    assert s.sequences == list(range(50_000))
    assert s.counters() == {
        "received": 50_000,
        "emitted": 50_000,
        "discarded": 0,
        "malformed": 0,
        "unidentified": 0,
        "lost": 0,
        "lost_others": 0,
        "lost_unidentified": 0,
    }


def test_one_call_hands_out_a_bounded_amount(source: Callable[..., Source]) -> None:
    s = source(plan(), entries=8 << 20, burst=1000)
    s.fire(60)
    sizes = []
    while batches := next_batches(s.stream, 0):
        sizes += [len(b.data) for b in batches]
    assert len(sizes) > 3
    assert max(sizes) < (1 << 20) + 4096


def test_filters_discard_and_are_counted(source: Callable[..., Source]) -> None:
    filters = [{"field": 0, "op": "<", "value": "10"}]
    s = source(plan(filters=filters), entries=1 << 20)
    s.fire(25)
    assert s.collect() == 10
    counters = s.counters()
    assert (counters["emitted"], counters["discarded"], counters["lost"]) == (10, 15, 0)
    assert counters["emitted"] + counters["lost"] + counters["discarded"] == s.produced


def test_perf_arrays_count_lost_samples(source: Callable[..., Source]) -> None:
    """Also those after which no sample came (Linux 6.0 counts them)."""
    s = source(plan("records", loss={}), perf=1, burst=1000)
    s.fire(2)
    assert s.collect() == 2000
    assert s.counters()["lost"] == 0
    s.fire(40)
    s.object.detach()
    s.collect()
    counters = s.counters()
    assert counters["lost"] > 0
    assert counters["emitted"] == len(s.sequences)
    assert counters["emitted"] + counters["lost"] == s.produced == 42_000


def test_uncounted_loss_is_unknown(source: Callable[..., Source]) -> None:
    s = source(plan(loss={}), burst=500)
    s.fire(10)
    s.collect()
    assert s.counters()["lost"] is None


def test_short_samples_are_malformed_when_too_short(source: Callable[..., Source]) -> None:
    s = source(plan(sample_size=128, min_size=100), entries=1 << 16)
    s.fire(4)
    assert s.collect() == 0
    counters = s.counters()
    assert (counters["malformed"], counters["lost"], counters["received"]) == (4, 4, 4)
    assert counters["emitted"] + counters["lost"] == s.produced


def test_containers_can_come_while_streaming(source: Callable[..., Source]) -> None:
    s = source(plan(), entries=1 << 16, mntns=42)
    s.stream.set_container(42, 0, {"runtime.containerName": "demo"})
    s.fire(1)
    (batch,) = wait_for(lambda: next_batches(s.stream, 100), "an event", 5)
    assert json.loads(batch.data)["container"] == "demo"
    s.stream.drop_container(42)
    s.fire(1)
    (batch,) = wait_for(lambda: next_batches(s.stream, 100), "an event", 5)
    assert json.loads(batch.data)["container"] == ""


def test_waiting_events_get_current_names_when_a_namespace_ends(
    source: Callable[..., Source],
) -> None:
    """More than one batch holds: its number may be another container's afterwards."""
    s = source(plan(), entries=8 << 20, burst=1000, mntns=42)
    s.stream.set_container(42, 0, {"runtime.containerName": "first"})
    s.fire(10)
    s.stream.decide(42, 1, "keep")
    s.stream.set_container(42, 0, {"runtime.containerName": "second"})
    s.fire(1)
    names: list[str] = []
    while batches := next_batches(s.stream, 0):
        names += [json.loads(x)["container"] for b in batches for x in b.data.splitlines()]
    assert names == ["first"] * 10_000 + ["second"] * 1000


def test_waking_ends_the_wait_and_holds_no_lock(source: Callable[..., Source]) -> None:
    s = source(plan(), entries=1 << 16)
    results: list[object] = []
    waiter = threading.Thread(target=lambda: results.append(next_batches(s.stream, 60_000)))
    start = time.monotonic()
    waiter.start()
    time.sleep(0.05)
    s.stream.set_container(1, 2, {"runtime.containerName": "x"})
    s.stream.counters()
    s.stream.wake()
    waiter.join(deadline(5))
    assert not waiter.is_alive()
    assert results == [[]]
    assert time.monotonic() - start < deadline(5)
    # A wake-up is used up once: the next wait lasts.
    start = time.monotonic()
    assert next_batches(s.stream, 200) == []
    assert time.monotonic() - start >= 0.19


def test_closing_the_object_ends_its_streams(elf: bytes) -> None:
    s = Source(elf, plan(), entries=1 << 16)
    maps = s.object.map_ids()
    failures: list[CoreError] = []

    def wait() -> None:
        try:
            while True:
                next_batches(s.stream, 60_000)
        except CoreError as err:
            failures.append(err)

    waiters = [threading.Thread(target=wait) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    time.sleep(0.05)
    s.object.close()
    for waiter in waiters:
        waiter.join(deadline(5))
        assert not waiter.is_alive()
    assert [f.kind for f in failures] == ["closed"] * 3
    s.close()
    wait_for(lambda: not set(maps) & ids("map").keys(), "the maps to go", 10)


def test_a_forgotten_stream_holds_nothing(elf: bytes) -> None:
    s = Source(elf, plan(), entries=1 << 16)
    maps = set(s.object.map_ids())
    files = len(list(Path("/proc/self/fd").iterdir()))
    del s
    gc.collect()
    wait_for(lambda: not maps & ids("map").keys(), "the maps to go", 10)
    assert len(list(Path("/proc/self/fd").iterdir())) < files


def test_plans_are_checked_against_the_object(elf: bytes) -> None:
    obj = Object(elf, "stress")
    for program in obj.programs():
        obj.set_autoload(program["name"], program["name"] == "on_enter")
    with pytest.raises(CoreError, match="no loaded map events"):
        obj.stream(plan())
    obj.load()
    try:
        for bad, why in (
            (plan("nothing"), "no loaded map nothing"),
            (plan("produced"), "neither ring buffer nor perf"),
            (plan(loss={"loss_map": "records"}), "cannot count losses"),
            (plan(loss={"loss_var": {"section": ".bss", "offset": 4096}}), "outside"),
            (plan(loss={"loss_var": {"section": ".nope", "offset": 0}}), "no loaded map .nope"),
        ):
            with pytest.raises(CoreError, match=why):
                obj.stream(bad)
    finally:
        obj.close()
