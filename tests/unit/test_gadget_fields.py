"""Structs to fields: kinds, places, tags, and what has no field."""

from __future__ import annotations

import pytest
from support.elf_writer import BOOL, SIGNED, BtfWriter
from support.gadget_objects import Members, datasource_of, tracer_object

from ig_py.errors import IgPyError, LimitError, ObjectError
from ig_py.gadget import fields as fields_module
from ig_py.gadget import room as room_module
from ig_py.gadget.spec import Flag, Kind


def char(btf: BtfWriter) -> int:
    return btf.integer("char", 1, SIGNED)


def u32(btf: BtfWriter) -> int:
    return btf.integer("unsigned int", 4)


def test_scalars() -> None:
    def members(btf: BtfWriter) -> Members:
        return [
            ("s8", btf.integer("signed char", 1, SIGNED), 0),
            ("u8", btf.integer("unsigned char", 1), 8),
            ("s16", btf.integer("short", 2, SIGNED), 16),
            ("s32", btf.integer("int", 4, SIGNED), 32),
            ("u64", btf.integer("unsigned long", 8), 64),
            ("flag", btf.integer("_Bool", 1, BOOL), 128),
            ("f32", btf.float("float", 4), 160),
            ("f64", btf.float("double", 8), 192),
        ]

    ds = datasource_of(tracer_object(members))
    assert [(f.name, f.kind, f.offset, f.size) for f in ds.fields] == [
        ("s8", Kind.INT8, 0, 1),
        ("u8", Kind.UINT8, 1, 1),
        ("s16", Kind.INT16, 2, 2),
        ("s32", Kind.INT32, 4, 4),
        ("u64", Kind.UINT64, 8, 8),
        ("flag", Kind.BOOL, 16, 1),
        ("f32", Kind.FLOAT32, 20, 4),
        ("f64", Kind.FLOAT64, 24, 8),
    ]
    assert {f.flags for f in ds.fields} == {Flag.STATIC_MEMBER}


def test_tags_name_the_type_chain_outermost_first() -> None:
    def members(btf: BtfWriter) -> Members:
        inner = btf.typedef("__u32", u32(btf))
        return [("uid", btf.typedef("gadget_uid", btf.volatile(btf.const(inner))), 0)]

    [field] = datasource_of(tracer_object(members)).fields
    assert field.tags == [
        "type:gadget_uid",
        "type:__u32",
        "type:unsigned int",
        "name:uid",
        "src:ebpf",
    ]
    assert field.annotations["columns.minwidth"] == "8"


def test_arrays() -> None:
    def members(btf: BtfWriter) -> Members:
        comm = btf.typedef("gadget_comm", char(btf))
        return [
            ("comm", btf.array(comm, 16), 0),
            ("bytes", btf.array(btf.integer("unsigned char", 1), 4), 128),
            ("numbers", btf.array(u32(btf), 2), 160),
            ("texts", btf.array(btf.array(char(btf), 4), 2), 224),
            ("matrix", btf.array(btf.array(u32(btf), 2), 2), 288),
            ("none", btf.array(u32(btf), 0), 416),
        ]

    ds = datasource_of(tracer_object(members))
    assert [(f.name, f.kind, f.array, f.count, f.size) for f in ds.fields] == [
        ("comm", Kind.CSTRING, False, 1, 16),
        ("bytes", Kind.UINT8, True, 4, 4),
        ("numbers", Kind.UINT32, True, 2, 8),
        ("texts", Kind.CSTRING, True, 2, 8),
        ("matrix", Kind.BYTES, False, 1, 16),
    ]
    assert ds.fields[0].tags == ["type:gadget_comm", "type:char", "name:comm", "src:ebpf"]


def test_types_without_a_field() -> None:
    def members(btf: BtfWriter) -> Members:
        struct = btf.struct("s", 4, [("a", u32(btf), 0)])
        return [
            ("pointer", btf.pointer(0), 0),
            ("__hidden", u32(btf), 64),
            ("__tree", struct, 64),
            ("wide", btf.integer("__int128", 16, SIGNED), 128),
            ("structs", btf.array(struct, 2), 256),
            ("seen", u32(btf), 320),
        ]

    assert [f.name for f in datasource_of(tracer_object(members)).fields] == ["seen"]


def test_nested_structs_depth_first() -> None:
    def members(btf: BtfWriter) -> Members:
        parent = btf.struct("gadget_parent", 8, [("pid", btf.typedef("gadget_ppid", u32(btf)), 32)])
        process = btf.struct(
            "gadget_process",
            16,
            [("pid", btf.typedef("gadget_pid", u32(btf)), 0), ("parent", parent, 64)],
        )
        return [("proc", process, 64), ("after", u32(btf), 192)]

    ds = datasource_of(tracer_object(members))
    assert [(f.full_name, f.parent, f.offset) for f in ds.fields] == [
        ("proc", None, 8),
        ("proc.pid", 0, 8),
        ("proc.parent", 0, 16),
        ("proc.parent.pid", 2, 20),
        ("after", None, 24),
    ]
    proc, pid, parent, _, _ = ds.fields
    assert proc.flags == Flag.STATIC_MEMBER | Flag.HIDDEN
    assert pid.flags == Flag.STATIC_MEMBER | Flag.HAS_PARENT
    assert pid.annotations["columns.alias"] == "pid"
    assert parent.annotations["columns.alias"] == "parent"


def test_an_event_that_is_a_process_has_short_names_too() -> None:
    elf = tracer_object(lambda btf: [("pid", u32(btf), 0)], struct="gadget_process")
    [pid] = datasource_of(elf).fields
    assert pid.annotations["columns.alias"] == "pid"


def test_members_of_anonymous_structs_belong_to_the_encloser() -> None:
    def members(btf: BtfWriter) -> Members:
        union = btf.struct(
            "", 4, [("u", u32(btf), 0), ("b", btf.array(u32(btf), 1), 0)], union=True
        )
        anonymous = btf.struct("", 8, [("x", u32(btf), 0), ("", union, 32)])
        return [("", anonymous, 64), ("named", anonymous, 128)]

    ds = datasource_of(tracer_object(members))
    assert [(f.full_name, f.offset) for f in ds.fields] == [
        ("x", 8),
        ("u", 12),
        ("b", 12),
        ("named", 16),
        ("named.x", 16),
        ("named.u", 20),
        ("named.b", 20),
    ]


def test_typedefs_of_structs_and_enums_are_followed() -> None:
    def members(btf: BtfWriter) -> Members:
        struct = btf.typedef("inner_t", btf.struct("inner", 4, [("a", u32(btf), 0)]))
        enum = btf.enum("color", 4, [("RED", 1), ("GREEN", 2)], signed=False)
        return [("in", struct, 0), ("color_raw", btf.typedef("color_t", enum), 32)]

    ds = datasource_of(tracer_object(members))
    assert [f.full_name for f in ds.fields] == ["in", "in.a", "color_raw"]
    color = ds.fields[2]
    assert (color.kind, color.enum_name) == (Kind.UINT32, "color")
    assert list(color.enum_values) == [(1, "RED"), (2, "GREEN")]


def test_bit_fields_lie_in_aligned_storage_units() -> None:
    def members(btf: BtfWriter) -> Members:
        return [("a", u32(btf), 32, 4), ("b", u32(btf), 36, 4), ("c", u32(btf), 64, 32)]

    ds = datasource_of(tracer_object(members, size=12))
    assert [(f.name, f.offset, f.bit_offset, f.bit_size) for f in ds.fields] == [
        ("a", 4, 0, 4),
        ("b", 4, 4, 4),
        ("c", 8, 0, 32),
    ]


def test_bit_field_at_the_end_of_a_packed_struct() -> None:
    def members(btf: BtfWriter) -> Members:
        return [("a", u32(btf), 32, 8)]

    [field] = datasource_of(tracer_object(members, size=5)).fields
    assert (field.offset, field.bit_offset, field.bit_size) == (1, 24, 8)


def test_member_outside_the_struct() -> None:
    with pytest.raises(ObjectError, match="'x' lies outside"):
        datasource_of(tracer_object(lambda btf: [("x", u32(btf), 8 * 62)]))


def test_struct_in_itself_is_refused() -> None:
    def members(btf: BtfWriter) -> Members:
        # The next type is the event struct itself.
        return [("self", len(btf.types) + 1, 0)]

    with pytest.raises(IgPyError):
        datasource_of(tracer_object(members))


def test_too_many_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "MAX_MEMBERS", 3)
    with pytest.raises(LimitError, match="members"):
        datasource_of(tracer_object(lambda btf: [(f"f{i}", u32(btf), 32 * i) for i in range(8)]))


def test_struct_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields_module, "MAX_STRUCT_SIZE", 32)
    with pytest.raises(LimitError, match="64 bytes"):
        datasource_of(tracer_object(lambda btf: [("a", u32(btf), 0)]))
