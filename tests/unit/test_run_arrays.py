"""When arrays are fetched, and what the flags and annotations may say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest

from ig_py.containers.ended_rows import EndedRows
from ig_py.errors import MetadataError, UsageError
from ig_py.gadget.duration import parse_duration, parse_interval
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, GadgetSpec
from ig_py.operators.base import Context
from ig_py.operators.limiter import Limiter
from ig_py.operators.sort import Sort
from ig_py.runtime.array_reader import ArrayReader, ReadSchedule, read_schedules

SECOND = 1_000_000_000
INTERVAL = "operator.oci.ebpf.map-fetch-interval"
COUNT = "operator.oci.ebpf.map-fetch-count"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1s", SECOND),
        ("1000ms", SECOND),
        ("1m0.5s", 60_500_000_000),
        (".5s", SECOND // 2),
        ("-2us", -2000),
        ("1h2m3s4ms5µs6ns", 3723004005006),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "1", "s", ".s", "1 s", "1sx", "s1", "1e3s", "9" * 99 + "s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["soon", "24ms", "-1s", "0", "\x1b[2J"])
def test_invalid_intervals_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"--every: .* is no duration from 25ms") as raised:
        parse_interval(text, "--every")
    assert raised.value.remedy == "give one such as 500ms or 3s"
    assert "\x1b" not in str(raised.value)


def arrays(*sources: str, **annotations: str) -> GadgetSpec:
    names = {key.replace("_", "-"): value for key, value in annotations.items()}
    return GadgetSpec(
        "g",
        {},
        datasources=[
            DataSourceSpec(f"d{i}", DataSourceType.ARRAY, source=source, annotations=names)
            for i, source in enumerate(sources)
        ],
    )


def test_iterators_have_annotations() -> None:
    assert read_schedules(arrays("iter"), {}) == [ReadSchedule("d0", 0, 1)]
    spec = arrays("iter", fetch_interval="2s", fetch_count="3")
    spec.datasources[0].annotations["ebpf.iter.fetch-on-stop"] = "true"
    assert read_schedules(spec, {}) == [ReadSchedule("d0", 2 * SECOND, 3, True)]
    with pytest.raises(MetadataError, match='data source "d0": annotation fetch-interval: "soon"'):
        read_schedules(arrays("iter", fetch_interval="soon"), {})


def test_maps_have_flags() -> None:
    spec = arrays("mapiter", "mapiter", "tracer")
    assert read_schedules(spec, {}) == [
        ReadSchedule("d0", SECOND, 0, at_stop_counts=True),
        ReadSchedule("d1", SECOND, 0, at_stop_counts=True),
    ]
    values = {INTERVAL: "d1:10ms", COUNT: "+7"}
    assert read_schedules(spec, values) == [
        ReadSchedule("d0", SECOND, 7, at_stop_counts=True),
        ReadSchedule("d1", 10_000_000, 7, at_stop_counts=True),
    ]
    assert read_schedules(arrays("mapiter"), {INTERVAL: "1ns"})[0].interval == 1_000_000


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({INTERVAL: "foo"}, '"foo" is no duration'),
        ({INTERVAL: "-1s"}, "negative"),
        ({INTERVAL: "x:1s"}, 'no data source "x" to apply it to: name one of: d0'),
        ({INTERVAL: "1s,d0:2s"}, "mixed"),
        ({COUNT: "many"}, '"many" is no number'),
        ({COUNT: "-1"}, '"-1" is no number'),
        ({COUNT: "++1"}, r'"\+\+1" is no number'),
        ({COUNT: "+"}, r'"\+" is no number'),
        ({INTERVAL: "2562048h"}, '"2562048h" is no duration'),
        ({INTERVAL: "0", COUNT: "2"}, "without an interval"),
    ],
)
def test_wrong_flags(values: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_schedules(arrays("mapiter"), values)


class FakeStream:
    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.places: list[int] = []
        self.failure = ""
        self.released: dict[str, str] = {}

    def released_array(self, name: str) -> str | None:
        return self.released.get(name)

    def take_ended(self, name: str, mntns: list[int]) -> str:
        self.fetched.append(f"{name} {mntns}")
        return self.failure

    def read_array(self, name: str, places: list[int]) -> tuple[str, str]:
        self.fetched.append(name)
        self.places = list(places)
        return name, self.failure


class Bench:
    """A fetcher whose time stands still unless moved."""

    def __init__(self, *given: ReadSchedule) -> None:
        self.now = 5 * SECOND
        self.stream = FakeStream()
        self.warned: list[str] = []
        self.seen: list[Any] = []
        self.ended: EndedRows | None = None
        self.reader = ArrayReader(
            list(given),
            self.netns,
            self.seen.append,
            self.warned.append,
            lambda: self.ended,
            lambda: self.now,
        )
        self.reader.start()

    def netns(self) -> list[int]:
        return [os.open("/dev/null", os.O_RDONLY)]

    def run(self, seconds: float = 0) -> list[str]:
        self.now += int(seconds * SECOND)
        self.stream.fetched.clear()
        self.reader.run(cast(Any, self.stream))
        return list(self.stream.fetched)


def test_rows_of_the_ended_are_taken_before_their_map_is_due() -> None:
    bench = Bench(ReadSchedule("a", 60 * SECOND, 0), ReadSchedule("b", SECOND, 0))
    bench.ended = EndedRows(frozenset({"a"}), lambda: bench.now)
    assert bench.run() == []
    bench.ended.end(7)
    bench.now += SECOND // 4
    bench.ended.end(8)
    assert bench.reader.wait_ms(2000) == 750
    assert bench.run(0.7) == []
    assert bench.run(0.05) == ["b", "a [7]"], "rows of the other may still come"
    assert bench.reader.wait_ms(2000) == 1000
    assert bench.run(1) == ["b", "a [8]"]
    assert bench.run(1) == ["b"]
    bench.ended.end(9)
    bench.stream.failure = "no such map"
    assert bench.run(1) == ["b", "a [9]"]
    assert any("have ended were not taken: no such map" in line for line in bench.warned)


def test_nothing_is_taken_out_of_a_map_that_is_not_read_again() -> None:
    bench = Bench(
        ReadSchedule("spent", SECOND, 1, True, True),
        ReadSchedule("never", 0, 0),
        ReadSchedule("stop", 0, 0, True, True),
    )
    bench.ended = EndedRows(frozenset({"spent", "never", "stop"}), lambda: bench.now)
    assert bench.run(1) == ["spent"]
    bench.ended.end(7)
    assert bench.run(1) == ["stop [7]"]
    assert bench.ended.due() is None


def test_a_map_that_is_read_in_time_needs_no_other_reading() -> None:
    bench = Bench(ReadSchedule("a", SECOND // 2, 0), ReadSchedule("b", SECOND // 2, 0))
    bench.ended = EndedRows(frozenset({"a", "b"}), lambda: bench.now)
    bench.run(0.1)
    bench.ended.end(7)
    bench.now += 1
    assert bench.run(0.5) == ["a", "b"]
    assert bench.ended.due() is None
    bench.ended.end(8)
    bench.now += 1
    bench.stream.failure = "not whole"
    assert bench.run(0.5) == ["a", "b"]
    assert bench.run(0.5) == ["a", "b", "a [8]", "b [8]"]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_namespace_that_has_another_number_is_not_pinned() -> None:
    ended = EndedRows(frozenset({"a"}))
    before = descriptors()
    ended.pin(1, "/proc/self")
    ended.pin(1, "/proc/0")
    assert descriptors() == before
    own = Path("/proc/self/ns/mnt").stat().st_ino
    ended.pin(own, "/proc/self")
    ended.pin(own, "/proc/self")
    assert descriptors() == before + 1
    ended.end(own)
    ended.taken([own, 3])
    assert descriptors() == before


def test_once_at_the_start() -> None:
    bench = Bench(ReadSchedule("d", 0, 1))
    assert bench.reader.wait_ms(250) == 0
    assert bench.run() == ["d"]
    assert bench.run(100) == []
    assert bench.reader.wait_ms(250) == 250
    assert bench.seen == ["d"]


def test_at_an_interval() -> None:
    bench = Bench(
        ReadSchedule("a", SECOND, 0), ReadSchedule("b", 3 * SECOND, 2), ReadSchedule("c", 0, 0)
    )
    assert bench.run(0.9) == []
    assert bench.reader.wait_ms(250) == 100
    assert bench.run(0.1) == ["a"]
    assert bench.run(1) == ["a"]
    assert bench.run(1) == ["a", "b"]
    # Two ticks are missed and not repeated later.
    assert bench.run(2.5) == ["a"]
    assert bench.reader.wait_ms(10_000) == 500
    assert bench.run(0.5) == ["a", "b"]
    assert bench.run(9) == ["a"]


def test_the_last_fetch() -> None:
    bench = Bench(
        ReadSchedule("a", SECOND, 0, True),
        ReadSchedule("b", SECOND, 0),
        ReadSchedule("c", 0, 0, True),
    )
    bench.reader.flush(cast(Any, bench.stream))
    assert bench.stream.fetched == ["a", "c"]


def test_the_last_fetch_is_one_of_those_that_were_asked_for() -> None:
    bench = Bench(
        ReadSchedule("a", SECOND, 1, True, at_stop_counts=True),
        ReadSchedule("b", SECOND, 2, True, at_stop_counts=True),
        ReadSchedule("c", 0, 1, True, at_stop_counts=True),
        ReadSchedule("d", 0, 1, True),
    )
    assert bench.run() == ["c", "d"]
    assert bench.run(1) == ["a", "b"]
    bench.stream.fetched.clear()
    bench.reader.flush(cast(Any, bench.stream))
    assert bench.stream.fetched == ["b", "d"]


def test_what_is_identified_late_is_shown_at_the_end() -> None:
    bench = Bench(ReadSchedule("a", SECOND, 1), ReadSchedule("b", SECOND, 0))
    bench.reader.show_released(cast(Any, bench.stream))
    assert bench.seen == []
    bench.stream.released["b"] = "late"
    bench.reader.show_released(cast(Any, bench.stream))
    assert bench.seen == ["late"]


def test_failures_are_said_and_descriptors_closed() -> None:
    bench = Bench(ReadSchedule("a", SECOND, 0))
    bench.stream.failure = "no"
    bench.run(1)
    assert bench.warned == ['data source "a" was not read whole: no']
    with pytest.raises(OSError):
        os.fstat(bench.stream.places[0])


def limits(spec: GadgetSpec, text: str) -> dict[str, int]:
    context = Context(spec, params={"operator.limiter.max-entries": text})
    assert Limiter().instantiate(context)
    return context.plan.limits


def test_limits() -> None:
    spec = arrays("iter", "mapiter")
    assert limits(spec, "") == limits(spec, "-1") == {}
    assert limits(spec, "5") == {"d0": 5, "d1": 5}
    assert limits(spec, "d1:0") == {"d1": 0}
    assert spec.params[0].default == "-1"
    for text in ("-2", "foo", "1,2", "d0:x", "1.5"):
        with pytest.raises(UsageError):
            limits(spec, text)


def test_without_arrays_there_is_nothing_to_sort_or_limit() -> None:
    spec = GadgetSpec("g", {}, datasources=[DataSourceSpec("d", DataSourceType.SINGLE)])
    assert not Sort().instantiate(Context(spec))
    assert not Limiter().instantiate(Context(spec))
    assert spec.params == []
