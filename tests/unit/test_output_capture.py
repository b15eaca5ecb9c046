"""Captures: the fields of a packet, other outputs beside them, and the core's file."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import pcapng
from support.core_plans import PlanMaker

from ig_py._core import CoreError, pipeline
from ig_py.errors import OutputError, UsageError
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, FieldSpec, Kind
from ig_py.output.capture import capture, check_alone
from ig_py.output.modes import choose_mode, known_modes

NAMES = {
    "pcap.payload": "data",
    "pcap.timestamp": "time",
    "pcap.packet-length": "Length",
}
NOW = 1_795_448_000_123_456_789


def field(index: int, name: str, kind: Kind, array: bool = False, **notes: str) -> FieldSpec:
    notes = {f"pcap.{key.replace('_', '-')}": value for key, value in notes.items()}
    return FieldSpec(name, name, index, kind, array=array, annotations=notes)


def packets(**annotations: str) -> DataSourceSpec:
    fields = [
        field(0, "time", Kind.UINT64),
        field(1, "length", Kind.UINT32),
        field(2, "ifindex", Kind.UINT32, interface_key="true"),
        field(3, "pod", Kind.STRING, interface_var="k8s.pod", interface_key="true"),
        field(4, "data", Kind.BYTES),
        field(5, "numbers", Kind.UINT32, array=True),
        field(6, "node", Kind.STRING, interface_var="node"),
    ]
    ds = DataSourceSpec("packets", DataSourceType.SINGLE, fields=fields, rest=4)
    ds.annotations = NAMES | {f"pcap.{k.replace('_', '-')}": v for k, v in annotations.items()}
    return ds


def test_fields_of_a_packet() -> None:
    assert capture(packets()) == {
        "payload": 4,
        "timestamp": 0,
        "length": 1,
        "interfaces": [
            {"field": 3, "name": "k8s.pod"},
            {"field": 6, "name": "node"},
            {"field": 2, "name": "ifindex"},
        ],
    }


@pytest.mark.parametrize(
    ("notes", "why"),
    [
        ({"payload": ""}, "annotation pcap.payload is missing"),
        ({"timestamp": ""}, "annotation pcap.timestamp is missing"),
        ({"packet_length": ""}, "annotation pcap.packet-length is missing"),
        ({"payload": "nope"}, "pcap.payload names 'nope'"),
        ({"payload": "length"}, "holds no bytes"),
        ({"timestamp": "data"}, "is no time"),
        ({"packet_length": "pod"}, "is no number"),
        ({"packet_length": "numbers"}, "is no number"),
    ],
)
def test_a_data_source_without_packets(notes: dict[str, str], why: str) -> None:
    with pytest.raises(OutputError, match=why):
        capture(packets(**notes))


def test_data_sources_that_cannot_be_captured() -> None:
    ds = packets()
    ds.fields[5].annotations["pcap.interface-key"] = "true"
    with pytest.raises(OutputError, match="'numbers'"):
        capture(ds)
    ds = packets()
    ds.type = DataSourceType.ARRAY
    with pytest.raises(OutputError, match="arrays"):
        capture(ds)


def test_a_capture_excludes_other_modes_and_terminals() -> None:
    check_alone({"a": "json", "b": "columns"}, terminal=True)
    check_alone({"a": "none", "b": "pcap-ng"}, terminal=False)
    with pytest.raises(UsageError, match="not for a terminal"):
        check_alone({"a": "pcap-ng"}, terminal=True)
    for other in ("columns", "pcap-ng"):
        with pytest.raises(UsageError, match=r"-o a:pcap-ng,b:none"):
            check_alone({"a": "pcap-ng", "b": other}, terminal=False)


def test_those_that_can_be_captured_are_offered() -> None:
    modes = {"a": "columns", "b": "pcap-ng", "c": "json", "d": "pcap-ng", "e": "none"}
    with pytest.raises(UsageError) as raised:
        check_alone(modes, terminal=False)
    assert raised.value.remedy == (
        "b, d can be captured, one at a time: -o b:pcap-ng,a:none,c:none,d:none"
    )
    many = {f"n{i}": "columns" for i in range(1000)} | {"b": "pcap-ng"}
    with pytest.raises(UsageError) as raised:
        check_alone(many, terminal=False)
    assert len(str(raised.value)) < 1000


def test_the_mode_needs_an_annotation() -> None:
    ds = packets()
    said: list[str] = []
    assert choose_mode(ds, "pcap-ng", said.append) is None
    assert "not supported" in said[0]
    ds.annotations["cli.supported-output-modes"] = "columns,pcap-ng"
    assert choose_mode(ds, "pcap-ng", said.append) == "pcap-ng"
    assert choose_mode(ds, "", said.append) == "columns"
    assert "pcap-ng" in known_modes([ds])
    assert "pcap-ng" not in known_modes([])


def maker() -> PlanMaker:
    """time (8 bytes), length (4), place (12); behind them, the packet."""
    plan = PlanMaker(24)
    time = plan.field("time_raw", "u64", 0, 8)
    length = plan.field("length", "u32", 8, 4)
    place = plan.field("place", "char", 12, 12)
    payload = plan.slot("payload", kind="bytes")
    text = plan.slot("time")
    plan.datasource["rest"] = {"field": payload}
    plan.step("timestamp", src=time, dst=text)
    given = {"payload": payload, "timestamp": text, "length": length}
    return plan.mode("pcap-ng", capture=given | {"interfaces": [{"field": place, "name": "at"}]})


def sample(time: int, length: int, place: bytes, data: bytes) -> bytes:
    return struct.pack("=QI12s", time, length, place) + data


def test_packets_of_two_interfaces() -> None:
    stream = pipeline(maker().text())
    batches = [
        stream.push("x", [sample(NOW, 4, b"eth 0", b"four")]),
        stream.push("x", [sample(NOW + 1, 9000, b"", b"cut"), sample(NOW + 2, 1, b"eth 0", b"z")]),
    ]
    assert [b.events for b in batches] == [1, 2]
    found = pcapng.read(b"".join(b.data for b in batches))
    first, second = pcapng.Interface("virtual", "at=eth+0"), pcapng.Interface("virtual", "at=")
    assert found.interfaces == [pcapng.Interface("others", ""), first, second]
    assert found.packets == [
        pcapng.Packet(first, NOW, b"four", 4),
        pcapng.Packet(second, NOW + 1, b"cut", 9000),
        pcapng.Packet(first, NOW + 2, b"z", 1),
    ]


def test_an_interface_for_each_container() -> None:
    plan = maker()
    netns = plan.field("netns_id", "u32", 12, 4)
    name = plan.slot("runtime.containerName")
    plan.step("container", mntns=None, netns=netns, fields={"runtime.containerName": name})
    plan.datasource["output"]["capture"]["interfaces"] = [{"field": name, "name": "container"}]
    stream = pipeline(plan.text())
    for number, container in ((1, "web;a"), (2, "db")):
        stream.set_container(number, number, {"runtime.containerName": container})
    raw = [sample(NOW, 1, bytes([netns, 0, 0, 0]), b"x") for netns in (1, 2, 3, 1)]
    found = pcapng.read(stream.push("x", raw).data)
    told = [packet.interface.description for packet in found.packets]
    assert told == ["container=web%3Ba", "container=db", "container=", "container=web%3Ba"]


def test_a_capture_without_packets_can_be_read() -> None:
    found = pcapng.read(pipeline(maker().text()).push("x", []).data)
    assert (len(found.interfaces), found.packets) == (1, [])


def test_a_time_that_is_none() -> None:
    plan = maker()
    plan.datasource["output"]["capture"]["timestamp"] = 2
    with pytest.raises(CoreError, match="place"):
        pipeline(plan.text())


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(
            sample,
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**32 - 1),
            st.binary(max_size=12),
            st.binary(max_size=50),
        ),
        max_size=9,
    )
)
def test_whatever_comes_it_can_be_read(samples: list[bytes]) -> None:
    found = pcapng.read(pipeline(maker().text()).push("x", samples).data)
    assert len(found.packets) == len(samples)
    for packet, raw in zip(found.packets, samples, strict=True):
        length = struct.unpack_from("=I", raw, 8)[0]
        assert packet.length == length
        assert packet.data == raw[24:][:length]
