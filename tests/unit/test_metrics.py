"""Metrics: what the core sums, and how histograms look."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from support.core_plans import PlanMaker
from support.live_run import running

from ig_py._core import CoreError, Stream, pipeline
from ig_py.errors import MetadataError, UsageError
from ig_py.gadget.datasource import add_field, new_datasource
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, GadgetSpec, Kind
from ig_py.inspect.extra_info import datasources_document
from ig_py.operators.base import Context
from ig_py.operators.otel_metrics import OtelMetrics, collect
from ig_py.operators.running import Timer
from ig_py.output.histogram import render
from ig_py.runtime.timers import Timers

SLOTS = 3


def maker(**metrics: Any) -> PlanMaker:
    made = PlanMaker(32)
    made.field("key", "char", 0, 4)
    made.field("n", "i32", 4, 4)
    made.field("slots", "u32", 8, 12, array=True, count=SLOTS)
    made.field("real", "f32", 20, 4)
    made.datasource |= {"array": True, "metrics": {"keys": [0], "values": []} | metrics}
    return made


def value(field: int, kind: str) -> dict[str, Any]:
    return {"field": field, "type": kind}


def element(key: str, n: int = 0, slots: tuple[int, ...] = (0,) * SLOTS, real: float = 0) -> bytes:
    return struct.pack("<4si3If8x", key.encode(), n, *slots, real)


def sums(made: PlanMaker, *fetches: list[bytes]) -> list[tuple[str, list[Any]]]:
    stream: Stream = pipeline(made.text())
    for fetch in fetches:
        stream.push("x", fetch)
    return stream.metrics("x")


def test_sums_by_key() -> None:
    made = maker(
        values=[value(1, "counter"), value(1, "gauge"), value(2, "histogram"), value(3, "counter")]
    )
    found = sums(
        made,
        [element('a"', 1, (1, 2, 3), 0.5), element("b", -5, (0, 0, 1))],
        [element('a"', 7, (1, 0, 0), 0.25)],
    )
    assert found == [
        ('["a\\""]', [8, 7, [2, 2, 3], 0.75]),
        ('["b"]', [(1 << 64) - 5, -5, [0, 0, 1], 0.0]),
    ]


def test_only_shown_fields_are_summed() -> None:
    made = maker(values=[value(1, "counter")], keys=[])
    made.filter(1, ">", "0")
    made.datasource["limit"] = 2
    assert sums(made, [element("a", n) for n in (-1, 1, 2, 4)]) == [("[]", [3])]


def test_too_many_combinations_share_a_sum() -> None:
    found = sums(
        maker(values=[value(1, "counter")], keys=[1]), [element("", n) for n in range(2100)]
    )
    assert len(found) == 2001
    assert found[-1] == ("", [sum(range(2000, 2100))])


@pytest.mark.parametrize(
    "metrics",
    [
        {"values": [value(0, "counter")]},
        {"values": [value(2, "counter")]},
        {"values": [value(1, "histogram")]},
        {"values": [value(9, "gauge")]},
        {"keys": [2]},
        {"values": [value(1, "summary")]},
    ],
)
def test_impossible_metrics(metrics: dict[str, Any]) -> None:
    with pytest.raises(CoreError):
        pipeline(maker(**metrics).text())


def test_text_is_written_as_it_is() -> None:
    made = PlanMaker(0)
    made.slot("text")
    made.datasource |= {"rest": {"field": 0}, "pushed": True}
    made.mode("text", header="<clear>")
    stream = pipeline(made.text())
    assert (
        stream.push("x", ["one\nµ\n".encode(), b"two"]).data == "<clear>one\nµ\n<clear>two".encode()
    )
    assert stream.counters()["x"]["lost"] == 0


def test_a_histogram() -> None:
    assert render([0, 32, 764], "µs") == (
        "        µs               : count    distribution\n"
        "         0 -> 1          : 0        |                                        |\n"
        "         1 -> 2          : 32       |*                                       |\n"
        "         2 -> 4          : 764      |****************************************|\n"
        "\n"
    )
    assert "*" not in render([0, 0], "")


def array(**annotations: str) -> DataSourceSpec:
    ds = new_datasource("lat", DataSourceType.ARRAY, Metadata({}))
    ds.annotations |= {"metrics.print": "true"}
    add_field(ds, "key", Kind.UINT32, annotations={"metrics.type": "key"})
    slots = add_field(ds, "slots", Kind.UINT32, tags=["type:gadget_histogram_slot__u32"])
    slots.array, slots.count = True, SLOTS
    slots.annotations = {"metrics.unit": "ms"} | annotations
    add_field(ds, "plain", Kind.UINT32)
    return ds


class FakeStream:
    def __init__(self) -> None:
        self.slots = [0, 1, 0]

    def metrics(self, name: str) -> list[tuple[str, list[Any]]]:
        assert name == "lat"
        return [("[1]", [list(self.slots)])] if any(self.slots) else []


def test_the_data_source_that_is_printed() -> None:
    context = Context(GadgetSpec("g", {}, datasources=[array()]))
    operator = OtelMetrics()
    assert operator.instantiate(context)
    source, shown = context.spec.datasources
    assert (source.unreferenced, shown.name, shown.type) == (True, "lat-rendered", 1)
    assert shown.annotations.items() > source.annotations.items()
    assert [ds["name"] for ds in datasources_document(context.spec)] == ["lat-rendered"]
    assert context.plan.metrics == {"lat": {"keys": [0], "values": [value(1, "histogram")]}}
    emitted: list[tuple[str, bytes]] = []
    stream = FakeStream()
    live = running(stream, lambda name, samples: emitted.extend((name, s) for s in samples))
    operator.start(context, live)
    [timer] = live.timers
    assert (timer.interval, timer.first, timer.times) == (1_000_000_000, 1_000_000_000, 0)
    timer.work()
    timer.work()
    assert [name for name, _ in emitted] == ["lat-rendered"] * 2
    assert emitted[0][1].decode() == "slots\n" + render([0, 1, 0], "ms")
    operator.drained(live)
    assert len(emitted) == 2
    stream.slots = [5, 1, 0]
    operator.drained(live)
    assert len(emitted) == 3


def test_invalid_metrics_are_refused() -> None:
    ds = array(**{"metrics.type": "gauge"})
    assert collect(ds).metrics == []
    assert "cannot be a gauge" in ds.notes[-1]
    with pytest.raises(MetadataError, match="expected one of key"):
        collect(array(**{"metrics.type": "bogus"}))


@pytest.mark.parametrize("interval", ["soon", "24ms", "-1s"])
def test_wrong_intervals(interval: str) -> None:
    params = {"operator.otel-metrics.otel-metrics-print-interval": interval}
    with pytest.raises(UsageError, match="otel-metrics-print-interval"):
        OtelMetrics().instantiate(Context(GadgetSpec("g", {}, datasources=[array()]), params))


def test_timers_do_not_make_up_for_missed_intervals() -> None:
    now = [0]
    done: list[int] = []
    timers = Timers([Timer(10, lambda: done.append(now[0]), 10)], lambda: now[0])
    for time in (5, 10, 11, 35, 39, 40):
        now[0] = time
        timers.run()
    assert done == [10, 35, 40]
    assert timers.wait_ms(250) == 1
    assert Timers([], lambda: 0).wait_ms(250) == 250


def test_a_timer_that_is_first_due_early_and_ends() -> None:
    now = [0]
    done: list[int] = []
    timers = Timers([Timer(10, lambda: done.append(now[0]), 2, times=3)], lambda: now[0])
    for time in range(50):
        now[0] = time
        timers.run()
    assert done == [2, 12, 22]
    assert timers.wait_ms(250) == 250
