"""The BTF reader."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.elf_writer import SIGNED, BtfWriter

from ig_py.errors import IgPyError, LimitError, ObjectError
from ig_py.gadget import btf as btf_module
from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import BtfKind
from ig_py.gadget.datasource import new_datasource
from ig_py.gadget.fields import add_struct_fields
from ig_py.gadget.maps import read_maps, type_name
from ig_py.gadget.markers import read_markers
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceType, MapSpec


def rich() -> BtfWriter:
    """Every kind that the reader knows."""
    btf = BtfWriter()
    u32 = btf.integer("unsigned int", 4)
    u64 = btf.integer("unsigned long", 8)
    char = btf.integer("char", 1, SIGNED)
    alias = btf.typedef("__u32", u32)
    inner = btf.struct("inner", 4, [("a", btf.const(alias), 0)])
    color = btf.enum("color", 4, [("RED", 1), ("GREEN", -2)], signed=True)
    big = btf.enum64("big", [("HUGE", 1 << 40), ("MINUS", -1)], signed=True)
    event = btf.struct(
        "event",
        48,
        [
            ("comm", btf.array(char, 16), 0),
            ("in", inner, 128),
            ("color_raw", color, 160),
            ("big_raw", big, 192),
            ("f", btf.float("double", 8), 256),
            ("low", u32, 320, 3),
            ("high", u32, 323, 29),
        ],
    )
    btf.add("fwd", 7, 0)
    btf.add("f", 12, btf.add("", 13, u32, 1, more=struct.pack("<II", btf.string("x"), u32)), 1)
    btf.add("tag", 17, event, more=struct.pack("<i", -1))
    btf.add("user", 18, u64)
    btf.map("events", 27)
    btf.map("counts", 1, key=inner, value=event, entries=64)
    btf.maps()
    btf.marker("gadget_tracer_e___events___event")
    btf.marker("gadget_map_tracer_events")
    btf.marker("gadget_mapiter_c___counts")
    return btf


def test_structs_enums_and_bit_fields() -> None:
    btf = Btf(rich().write())
    event = btf.find("event", BtfKind.STRUCT)
    assert event is not None
    assert event.size == 48
    assert [(m.name, m.bit_offset, m.bit_size) for m in event.members] == [
        ("comm", 0, 0),
        ("in", 128, 0),
        ("color_raw", 160, 0),
        ("big_raw", 192, 0),
        ("f", 256, 0),
        ("low", 320, 3),
        ("high", 323, 29),
    ]
    color = btf.find("color", BtfKind.ENUM)
    big = btf.find("big", BtfKind.ENUM64)
    assert color is not None
    assert big is not None
    assert color.values == ((1, "RED"), (-2, "GREEN"))
    assert big.values == ((1 << 40, "HUGE"), (-1, "MINUS"))


def test_unsigned_enum_values() -> None:
    writer = BtfWriter()
    writer.enum("e", 4, [("MAX", 0xFFFFFFFF - (1 << 32) & 0xFFFFFFFF)], signed=False)
    found = Btf(writer.write()).find("e", BtfKind.ENUM)
    assert found is not None
    assert found.values == ((0xFFFFFFFF, "MAX"),)


def test_sizes_through_typedefs_and_arrays() -> None:
    writer = BtfWriter()
    u32 = writer.integer("unsigned int", 4)
    array = writer.array(writer.typedef("t", writer.const(u32)), 3)
    nested = writer.array(array, 5)
    pointer = writer.pointer(u32)
    btf = Btf(writer.write())
    assert btf.size_of(nested) == 60
    assert btf.size_of(pointer) == 8
    assert btf.size_of(0) == 0


def test_map_definitions() -> None:
    maps = read_maps(Btf(rich().write()))
    assert list(maps) == ["events", "counts"]
    counts = maps["counts"].spec
    assert (counts.type, counts.key_size, counts.value_size, counts.max_entries) == (1, 4, 48, 64)
    assert maps["events"].spec.type == 27


def a_map(*attributes: tuple[str, int], writer: BtfWriter) -> MapSpec:
    """A map ``m`` with these members; each is a name and the id of a type of *writer*."""
    members = [(name, type_id, 64 * at) for at, (name, type_id) in enumerate(attributes)]
    definition = writer.struct("", 8 * len(members), members)
    writer.datasec(".maps", [(writer.variable("m", definition), 0, 8 * len(members))])
    return read_maps(Btf(writer.write()))["m"].spec


def test_numbers_of_maps_by_ulong_and_by_typed_enums() -> None:
    """``__ulong()`` declares an enum of one value, above 32 bits an enum64."""
    writer = BtfWriter()
    small = writer.enum("", 4, [("__unique_value0", 30)], signed=False)
    named = writer.typedef("size", writer.enum("sizes", 4, [("FOUR", 4)], signed=False))
    spec = a_map(
        ("type", small),
        ("value_size", named),
        ("max_entries", writer.number(100)),
        ("map_extra", writer.enum64("", [("__unique_value1", 1 << 40)], signed=False)),
        writer=writer,
    )
    assert (spec.type, spec.value_size, spec.max_entries) == (30, 4, 100)


def test_a_kind_of_map_that_is_not_known_is_read() -> None:
    writer = BtfWriter()
    spec = a_map(
        ("type", writer.number(4711)),
        ("something_new", writer.integer("int", 4)),
        ("something_else", writer.enum("", 4, [("A", 1), ("B", 2)], signed=False)),
        writer=writer,
    )
    assert spec.type == 4711
    assert type_name(spec.type) == "MapType(4711)"


@pytest.mark.parametrize("values", [[], [("A", 1), ("B", 2)]])
def test_an_enum_that_stands_for_no_number(values: list[tuple[str, int]]) -> None:
    writer = BtfWriter()
    enum = writer.enum("", 4, values, signed=False)
    with pytest.raises(ObjectError, match="map 'm': attribute 'max_entries' is no number"):
        a_map(("type", writer.number(1)), ("max_entries", enum), writer=writer)


def test_cycle_of_typedefs_ends() -> None:
    writer = BtfWriter()
    writer.typedef("a", 2)
    writer.typedef("b", 1)
    with pytest.raises(ObjectError, match="cycle"):
        Btf(writer.write()).resolve(1)


def test_cycle_of_arrays_ends() -> None:
    writer = BtfWriter()
    writer.array(1, 2)
    with pytest.raises(ObjectError, match="cycle"):
        Btf(writer.write()).size_of(1)


def test_gigantic_array_is_refused() -> None:
    writer = BtfWriter()
    u64 = writer.integer("u64", 8)
    array = writer.array(writer.array(u64, 0xFFFFFFFF), 0xFFFFFFFF)
    with pytest.raises(ObjectError, match="larger than"):
        Btf(writer.write()).size_of(array)


def header(**changes: int) -> bytes:
    values = {"magic": 0xEB9F, "version": 1, "hdr_len": 24, "type_off": 0, "type_len": 0}
    values |= {"str_off": 0, "str_len": 1} | changes
    return struct.pack(
        "<HBBIIIII",
        values["magic"],
        values["version"],
        0,
        *(values[k] for k in ("hdr_len", "type_off", "type_len", "str_off", "str_len")),
    )


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no header"),
        (header(magic=0x9FEB) + b"\0", "magic"),
        (header(version=2) + b"\0", "version 2"),
        (header(hdr_len=8) + b"\0", "header length"),
        (header(type_len=0xFFFFFFFF) + b"\0", "type section lies outside"),
        (header(str_len=0xFFFFFFFF) + b"\0", "string section lies outside"),
        (header() + b"x", "NUL"),
        (header(type_len=3, str_off=3) + b"abc\0", "cut short"),
        (header(type_len=12, str_off=12) + struct.pack("<III", 0, 31 << 24, 0) + b"\0", "kind 31"),
        (
            header(type_len=12, str_off=12) + struct.pack("<III", 0, 4 << 24 | 9, 0) + b"\0",
            "cut short",
        ),
    ],
)
def test_malformed_btf_is_refused_with_the_reason(raw: bytes, why: str) -> None:
    with pytest.raises(ObjectError, match=why):
        Btf(raw)


def test_too_many_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(btf_module, "MAX_TYPES", 4)
    with pytest.raises(LimitError, match="BTF types"):
        Btf(rich().write())


def test_unknown_type_id() -> None:
    with pytest.raises(ObjectError, match="does not exist"):
        Btf(rich().write()).type(10_000)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_flipped_bytes_only_raise_our_errors(data: st.DataObject) -> None:
    raw = bytearray(rich().write())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        btf = Btf(bytes(raw), "fuzz")
        markers = read_markers(btf, read_maps(btf), {})
        for tracer in markers.tracers:
            ds = new_datasource(tracer.name, DataSourceType.SINGLE, Metadata())
            add_struct_fields(ds, btf, tracer.struct)
        for type_id in range(len(btf)):
            btf.size_of(type_id)
    except IgPyError:
        pass
