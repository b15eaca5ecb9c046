"""The core's pipeline without a kernel: decoding, steps, enrichment, counting."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.core_plans import PlanMaker
from support.pumping import next_batches

from ig_py._core import CoreError, pipeline


def one(maker: PlanMaker, sample: bytes, **container: Any) -> dict[str, Any]:
    stream = pipeline(maker.text())
    if container:
        stream.set_container(**container)
    batch = stream.push("x", [sample])
    assert batch.events == 1
    event = json.loads(batch.data)
    assert isinstance(event, dict)
    return event


def formatted(op: str, kind: str, value: int, **keys: Any) -> str:
    """What *op* makes of one little-endian number."""
    size = {"u8": 1, "u16": 2, "u32": 4, "i32": 4, "u64": 8, "i64": 8}[kind]
    maker = PlanMaker(size)
    src = maker.field("raw", kind, 0, size)
    maker.step(op, src=src, dst=maker.slot("text"), **keys)
    raw = value.to_bytes(size, "little", signed=value < 0)
    return str(one(maker, raw)["text"])


def test_every_kind_decodes() -> None:
    maker = PlanMaker(64)
    layout: list[tuple[str, str, Any]] = [
        ("b", "bool", True),
        ("u8", "u8", 200),
        ("i8", "i8", -1),
        ("u16", "u16", 60000),
        ("i16", "i16", -2),
        ("u32", "u32", 4_000_000_000),
        ("i32", "i32", -3),
        ("u64", "u64", 2**64 - 1),
        ("i64", "i64", -4),
        ("f32", "f32", 1.5),
        ("f64", "f64", 4.986658917132754),
    ]
    codes = dict(bool="?", u8="B", i8="b", u16="H", i16="h", u32="I", i32="i", u64="Q", i64="q")
    codes |= dict(f32="f", f64="d")
    raw = b""
    for name, kind, value in layout:
        packed = struct.pack("<" + codes[kind], value)
        maker.field(name, kind, len(raw), len(packed))
        raw += packed
    maker.field("text", "char", len(raw), 4)
    maker.field("blob", "bytes", len(raw) + 4, 3)
    raw += b"hi\0x" + b"\x00\xab\xff"
    expected: dict[str, Any] = {name: value for name, _, value in layout}
    assert one(maker, raw) == expected | {"text": "hi", "blob": "00abff"}


def test_arrays() -> None:
    """Elements keep their kind; bool and string arrays are valid."""
    maker = PlanMaker(64)
    maker.field("u64s", "u64", 0, 16, array=True, count=2)
    maker.field("u32s", "u32", 16, 8, array=True, count=2)
    maker.field("bools", "bool", 24, 3, array=True, count=3)
    maker.field("texts", "char", 32, 8, array=True, count=2)
    maker.field("one", "u8", 40, 1, array=True, count=1)
    raw = struct.pack(
        "<QQII3?5x4s4sB", 2**64 - 1, 7, 2**32 - 1, 0, True, False, True, b"a", b"wxyz", 9
    )
    assert one(maker, raw) == {
        "u64s": [2**64 - 1, 7],
        "u32s": [2**32 - 1, 0],
        "bools": [True, False, True],
        "texts": ["a", "wxyz"],
        "one": [9],
    }


def test_bit_fields_are_their_bits() -> None:
    maker = PlanMaker(4)
    maker.field("a", "u8", 0, 1, bits=4, bit_offset=0)
    maker.field("b", "u8", 0, 1, bits=4, bit_offset=4)
    maker.field("c", "i16", 1, 2, bits=3, bit_offset=5)
    raw = bytes([0x23]) + (0b111 << 5).to_bytes(2, "little") + b"\0"
    assert one(maker, raw) == {"a": 3, "b": 2, "c": -1}


def test_samples_are_extended_and_cut() -> None:
    maker = PlanMaker(8)
    maker.field("n", "u32", 0, 4)
    maker.field("text", "char", 4, 4)
    stream = pipeline(maker.text())
    for sample, expected in [
        (b"", {"n": 0, "text": ""}),
        (b"\x01\x02", {"n": 0x201, "text": ""}),
        (b"\1\0\0\0ab", {"n": 1, "text": "ab"}),
        (b"\1\0\0\0abcdefgh", {"n": 1, "text": "abcd"}),
    ]:
        assert json.loads(stream.push("x", [sample]).data) == expected


def test_json_is_sorted_nested_and_escaped() -> None:
    maker = PlanMaker(16)
    outer = maker.field("outer", "container", 0, 16)
    maker.field("b", "u8", 0, 1, outer)
    inner = maker.field("a", "container", 1, 8, outer)
    maker.field("x", "char", 1, 8, inner)
    maker.field("B", "u8", 9, 1)
    maker.field("skipped", "u8", 9, 1, json=False)
    hidden = maker.field("gone", "container", 0, 4, json=False)
    maker.field("child", "u8", 0, 1, hidden)
    maker.field("empty", "container", 0, 4)
    data = pipeline(maker.text()).push("x", [b'\7q"\\\t\xff\x01\x7f\0\5']).data
    assert data == (
        b'{"B":5,"empty":{},"outer":{"a":{"x":"q\\"\\\\\\t\\ufffd\\u0001\x7f"},"b":7}}\n'
    )


def test_floats_that_are_no_numbers_are_null() -> None:
    maker = PlanMaker(16)
    maker.field("a", "f64", 0, 8)
    maker.field("b", "f32", 8, 4)
    maker.field("c", "f64", 0, 16, array=True, count=2)
    event = one(maker, struct.pack("<dfI", float("nan"), float("inf"), 0))
    assert event["a"] is None and event["b"] is None and event["c"][0] is None


@pytest.mark.parametrize(
    ("op", "kind", "value", "text"),
    [
        ("errno", "u32", 0, ""),
        ("errno", "u32", 2, "ENOENT"),
        ("errno", "u32", 95, "ENOTSUP"),
        ("errno", "u32", 41, "error#41"),
        ("errno", "u32", 4096, "error#4096"),
        ("signal", "u32", 9, "SIGKILL"),
        ("signal", "u32", 99, "signal#99"),
        ("syscall", "u64", 2**63, "SYS_UNKNOWN"),
        ("bytes", "u64", 123456789, "124 MB"),
        ("bytes", "u64", 9, "9 B"),
        ("duration", "u64", 1500, "1.50µs"),
        ("duration", "u64", 90061500000000, "25h1m1.5s"),
        ("file_mode", "u32", 33188, "-rw-r--r--"),
        ("file_flags", "u32", 525377, "O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC"),
        ("user", "u32", 12345, "uid:12345"),
        ("group", "u32", 4294967295, "gid:4294967295"),
    ],
)
def test_formatters(op: str, kind: str, value: int, text: str) -> None:
    assert formatted(op, kind, value) == text


def test_enums() -> None:
    values: list[list[Any]] = [[0, "RED"], [2, "GREEN"], [2, "AGAIN"], [-1, "NONE"]]
    assert formatted("enum", "u32", 2, values=values) == "GREEN"
    assert formatted("enum", "u32", 3, values=values) == "UNKNOWN"
    assert formatted("enum", "i32", -1, values=values) == "NONE"
    flags: list[list[Any]] = [[0, "PNONE"], [1, "R"], [2, "W"], [4, "X"]]
    assert formatted("enum", "u32", 5, values=flags, set=True) == "PNONE|R|X"
    assert formatted("enum", "u32", 0, values=flags, set=True) == "PNONE"
    assert formatted("enum", "u32", 6, values=flags[1:], set=True, separator=", ") == "W, X"
    assert formatted("enum", "u32", 8, values=flags[1:], set=True) == ""
    big: list[list[Any]] = [[2**64 - 1, "ALL"], [2**40, "HIGH"]]
    assert formatted("enum", "u64", 2**40, values=big) == "HIGH"
    assert formatted("enum", "u64", 2**64 - 1, values=big) == "ALL"


def test_timestamps_become_wall_clock() -> None:
    maker = PlanMaker(8)
    src = maker.field("timestamp_raw", "u64", 0, 8)
    maker.step("timestamp", src=src, dst=maker.slot("timestamp"), layout=None)
    maker.step(
        "timestamp",
        src=maker.field("again", "u64", 0, 8),
        dst=maker.slot("day"),
        layout="2006-01-02",
    )
    maker.document["clock_offset_ns"] = 1_795_000_000_000_000_000
    maker.document["timezone_offset_s"] = -12_600
    event = one(maker, struct.pack("<Q", 412_782_929_425_421))
    assert event["timestamp_raw"] == 1_795_412_782_929_425_421
    assert event["timestamp"] == "2026-11-23T02:16:22.929425421-03:30"
    assert event["day"] == "2026-11-23"
    assert one(maker, bytes(8))["timestamp_raw"] > 1_700_000_000_000_000_000


def with_timestamp(**document: Any) -> PlanMaker:
    maker = PlanMaker(8)
    src = maker.field("timestamp_raw", "u64", 0, 8)
    maker.step("timestamp", src=src, dst=maker.slot("timestamp"), layout=None)
    maker.document |= document
    return maker


@pytest.fixture
def central_europe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone with summer time, by its rule: it needs no database of time zones."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("central_europe")
def test_each_time_has_the_zone_of_its_season() -> None:
    # The last second of summer time in 2026, and the first one after it: both are 2 o'clock.
    change = 1_792_890_000
    maker = with_timestamp(clock_offset_ns=0, timezone_offset_s=None)
    stream = pipeline(maker.text())
    samples = [struct.pack("<Q", second * 10**9) for second in (change - 1, change, change - 1)]
    lines = stream.push("x", samples).data.splitlines()
    assert [json.loads(line)["timestamp"] for line in lines] == [
        "2026-10-25T02:59:59.000000000+02:00",
        "2026-10-25T02:00:00.000000000+01:00",
        "2026-10-25T02:59:59.000000000+02:00",
    ]


def test_without_a_given_clock_it_is_that_of_this_machine() -> None:
    maker = with_timestamp(clock_offset_ns=None, timezone_offset_s=0)
    boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    wall = one(maker, struct.pack("<Q", boot))["timestamp_raw"]
    assert abs(wall - time.time_ns()) < 10**9


def test_endpoints() -> None:
    maker = PlanMaker(24)
    address = maker.field("addr_raw", "container", 0, 16)
    keys = {
        "version": maker.field("version", "u8", 16, 1),
        "addr_raw": address,
        "addr": maker.slot("addr"),
    }
    port = maker.field("port", "u16", 18, 2)
    raw = maker.field("proto_raw", "u16", 20, 2)
    proto, endpoint = maker.slot("proto"), maker.slot("endpoint")
    maker.step("l4endpoint", **keys, port=port, proto_raw=raw, proto=proto, endpoint=endpoint)

    def show(ip: bytes, version: int, number: int) -> tuple[str, str, str]:
        event = one(maker, struct.pack("<16sBxHHH", ip, version, 80, number, 0))
        return event["addr"], event["proto"], event["endpoint"]

    assert show(bytes([127, 0, 0, 1]), 4, 6) == ("127.0.0.1", "TCP", "127.0.0.1:80")
    assert show(bytes(15) + b"\1", 6, 250) == ("::1", "proto#250", "::1:80")
    mapped = bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 1])
    assert show(mapped, 6, 17)[0] == "10.0.0.1"
    assert show(bytes(16), 6, 58) == ("::", "IPv6-ICMP", ":::80")


@pytest.mark.parametrize("op", ["l3endpoint", "l4endpoint"])
def test_an_event_with_an_address_of_another_version_is_left_out(op: str) -> None:
    maker = PlanMaker(24)
    keys = {
        "version": maker.field("version", "u8", 16, 1),
        "addr_raw": maker.field("addr_raw", "container", 0, 16),
        "addr": maker.slot("addr"),
    }
    if op == "l4endpoint":
        # Without a protocol, as in a struct of the gadget's own.
        keys |= {"port": maker.field("port", "u16", 18, 2), "endpoint": maker.slot("endpoint")}
    maker.step(op, **keys)
    stream = pipeline(maker.text())
    versions = (4, 0, 6, 9, 255)
    batch = stream.push("x", [bytes(16) + bytes([v, 0, 80, 0]) + bytes(4) for v in versions])
    events = [json.loads(line) for line in batch.data.splitlines()]
    assert [event["addr"] for event in events] == ["0.0.0.0", "::"]
    if op == "l4endpoint":
        assert [event["endpoint"] for event in events] == ["0.0.0.0:80", ":::80"]
    counters = stream.counters()["x"]
    assert (counters["emitted"], counters["discarded"], stream.refused()) == (2, 3, 3)
    stream.close()


def containers() -> PlanMaker:
    maker = PlanMaker(16)
    mntns = maker.field("mntns", "u64", 0, 8)
    netns = maker.field("netns", "u64", 8, 8)
    k8s, runtime = maker.field("k8s", "container"), maker.field("runtime", "container")
    fields = {
        "k8s.podName": maker.slot("podName", k8s),
        "k8s.hostnetwork": maker.slot("hostnetwork", k8s, "bool"),
        "runtime.containerName": maker.slot("containerName", runtime),
        "runtime.containerPid": maker.slot("containerPid", runtime, "u32", size=4),
        "runtime.containerStartedAt": maker.slot("containerStartedAt", runtime, "i64", size=8),
    }
    maker.step("container", mntns=mntns, netns=netns, fields=fields)
    return maker


def test_enrichment_by_namespaces() -> None:
    stream = pipeline(containers().text())

    def show(mntns: int, netns: int) -> dict[str, Any]:
        event = json.loads(stream.push("x", [struct.pack("<QQ", mntns, netns)]).data)
        return {**event["k8s"], **event["runtime"]}

    nothing = dict(
        podName="", hostnetwork=False, containerName="", containerPid=0, containerStartedAt=0
    )
    assert show(1, 10) == nothing
    demo: dict[str, str | int | bool] = {
        "runtime.containerName": "demo",
        "runtime.containerPid": 440,
        "runtime.containerStartedAt": 1_795_415_450_267_099_729,
        "unknown.field": "ignored",
    }
    stream.set_container(1, 10, demo)
    found = dict(
        podName="",
        hostnetwork=False,
        containerName="demo",
        containerPid=440,
        containerStartedAt=1_795_415_450_267_099_729,
    )
    assert show(1, 99) == found
    assert show(7, 10) == found
    stream.set_container(2, 10, {"runtime.containerName": "other"})
    assert show(7, 10) == nothing
    # Running containers come first where they share a network namespace with an ended one.
    stream.end_container(2)
    assert show(7, 10) == found
    assert show(2, 10)["containerName"] == "other"
    stream.drop_container(2)
    stream.drop_container(2)
    assert show(7, 10) == found

    pod: dict[str, str | int | bool] = {
        "k8s.podName": "p",
        "k8s.namespace": "n",
        "runtime.containerPid": 5,
    }
    stream.set_container(3, 30, pod | {"runtime.containerName": "first"})
    stream.set_container(4, 30, pod | {"runtime.containerName": "second"})
    by_net = show(9, 30)
    assert (by_net["podName"], by_net["containerName"], by_net["containerPid"]) == ("p", "first", 0)

    stream.set_container(5, 50, {"k8s.hostnetwork": True, "runtime.containerName": "host"})
    assert show(9, 50) == nothing
    assert show(5, 50)["hostnetwork"] is True
    stream.set_container(1, 10, {"runtime.containerName": "renamed"})
    assert show(1, 0)["containerName"] == "renamed"


def test_container_values_are_text_numbers_or_flags() -> None:
    stream = pipeline(containers().text())
    with pytest.raises(TypeError):
        stream.set_container(1, 2, {"runtime.containerName": 1.5})  # type: ignore[dict-item]
    with pytest.raises(OverflowError):
        stream.set_container(1, 2, {"runtime.containerPid": 2**70})
    stream.set_container(1, 2, {"runtime.containerName": "a\udcffb"})
    event = json.loads(stream.push("x", [struct.pack("<QQ", 1, 0)]).data)
    assert "a" in event["runtime"]["containerName"] and "b" in event["runtime"]["containerName"]


def test_user_and_group_names() -> None:
    maker = PlanMaker(8)
    uid, gid = maker.field("uid", "u32", 0, 4), maker.field("gid", "u32", 4, 4)
    maker.step("user", src=uid, dst=maker.slot("user"))
    maker.step("group", src=gid, dst=maker.slot("group"))
    stream = pipeline(maker.text())
    stream.set_names({0: "root", 1000: "me"}, {0: "wheel"})
    event = json.loads(stream.push("x", [struct.pack("<II", 1000, 0)]).data)
    assert (event["user"], event["group"]) == ("me", "wheel")
    stream.set_names({}, {})
    event = json.loads(stream.push("x", [struct.pack("<II", 0, 0)]).data)
    assert (event["user"], event["group"]) == ("uid:0", "gid:0")


def test_counting_and_rows() -> None:
    maker = PlanMaker(4)
    n = maker.field("n", "u32", 0, 4)
    maker.filter(n, ">=", "2")
    maker.datasource["keep"] = True
    maker.datasource["min_size"] = 2
    stream = pipeline(maker.mode("none").text())
    batch = stream.push("x", [b"", b"\1\0\0\0", b"\2\0\0\0", b"\3\0"])
    assert (batch.datasource, batch.data, batch.events) == ("x", b"", 2)
    assert batch.rows() == [{"n": 2}, {"n": 3}]
    counters = stream.counters()["x"]
    assert counters == dict(
        received=4,
        emitted=2,
        discarded=1,
        malformed=1,
        unidentified=0,
        lost=None,
        lost_others=0,
        lost_unidentified=0,
    )
    assert stream.push("x", []).events == 0
    stream.close()
    stream.close()
    stream.wake()
    for use in (lambda: stream.push("x", []), stream.counters, lambda: next_batches(stream, 0)):
        with pytest.raises(CoreError) as failure:
            use()
        assert failure.value.kind == "closed"


def test_a_pipeline_without_readers_just_waits() -> None:
    maker = PlanMaker(4)
    maker.field("n", "u32", 0, 4)
    stream = pipeline(maker.text())
    assert next_batches(stream, 0) == []
    assert next_batches(stream, 10) == []
    stream.wake()
    assert next_batches(stream, 60_000) == []
    with pytest.raises(CoreError, match="no data source y"):
        stream.push("y", [])
