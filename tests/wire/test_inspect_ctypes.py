"""Every C type as a real compiler describes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.compilers import clang_params, require_release
from support.gadget_objects import spec_of

from ig_py.gadget.spec import GadgetSpec, Kind

SOURCE = Path(__file__).parent / "data" / "ctypes" / "every_type.bpf.c"


@pytest.fixture(scope="module", params=clang_params())
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GadgetSpec:
    out = tmp_path_factory.mktemp("ctypes") / "o"
    subprocess.run(
        [
            require_release(request.param).path,
            "-target",
            "bpf",
            "-g",
            "-O2",
            "-c",
            str(SOURCE),
            "-o",
            str(out),
        ],
        check=True,
        timeout=60,
    )
    return spec_of(out.read_bytes())


def test_fields(spec: GadgetSpec) -> None:
    [ds] = spec.datasources
    found = [
        (f.full_name, f.kind, f.array, f.count, f.offset)
        for f in ds.fields
        if f.name != "level_raw"
    ]
    assert found == [
        ("comm", Kind.CSTRING, False, 1, 0),
        ("uid", Kind.UINT32, False, 1, 16),
        ("s8", Kind.INT8, False, 1, 20),
        ("c", Kind.INT8, False, 1, 21),
        ("uc", Kind.UINT8, False, 1, 22),
        ("flag", Kind.BOOL, False, 1, 23),
        ("f32", Kind.FLOAT32, False, 1, 24),
        ("f64", Kind.FLOAT64, False, 1, 32),
        ("numbers", Kind.UINT16, True, 3, 40),
        ("bytes", Kind.UINT8, True, 4, 46),
        ("flags", Kind.BOOL, True, 2, 50),
        ("texts", Kind.CSTRING, True, 2, 52),
        ("in", Kind.BYTES, False, 1, 60),
        ("in.a", Kind.UINT32, False, 1, 60),
        ("in.s", Kind.CSTRING, False, 1, 64),
        ("in_td", Kind.BYTES, False, 1, 72),
        ("in_td.a", Kind.UINT32, False, 1, 72),
        ("in_td.s", Kind.CSTRING, False, 1, 76),
        ("uu", Kind.BYTES, False, 1, 84),
        ("uu.u", Kind.UINT32, False, 1, 84),
        ("uu.b", Kind.UINT8, True, 4, 84),
        ("named", Kind.BYTES, False, 1, 88),
        ("named.x", Kind.UINT32, False, 1, 88),
        ("anon", Kind.UINT32, False, 1, 92),
        ("color_raw", Kind.UINT32, False, 1, 96),
        ("colortd_raw", Kind.UINT32, False, 1, 100),
        ("bf1", Kind.UINT32, False, 1, 108),
        ("bf2", Kind.UINT32, False, 1, 108),
        ("constant", Kind.UINT32, False, 1, 148),
        ("quick", Kind.UINT64, False, 1, 152),
    ]


def test_bit_fields(spec: GadgetSpec) -> None:
    [ds] = spec.datasources
    assert {f.name: (f.bit_offset, f.bit_size) for f in ds.fields if f.bit_size} == {
        "bf1": (0, 4),
        "bf2": (4, 4),
    }


def test_enums(spec: GadgetSpec) -> None:
    [ds] = spec.datasources
    enums = {f.name: list(f.enum_values) for f in ds.fields if f.enum_values}
    colors = [(1, "RED"), (2, "GREEN")]
    level = enums.pop("level_raw")
    assert enums == {"color_raw": colors, "colortd_raw": colors}
    # clang 14 does not say that an enum is signed.
    low = -1 if ds.fields[26].kind == Kind.INT32 else 0xFFFFFFFF
    assert level == [(low, "LOW"), (1, "HIGH")]


def test_type_tags(spec: GadgetSpec) -> None:
    [ds] = spec.datasources
    tags = {f.full_name: [t for t in f.tags if t.startswith("type:")] for f in ds.fields}
    assert tags["comm"] == ["type:gadget_comm", "type:char"]
    assert tags["uid"] == ["type:gadget_uid", "type:__u32", "type:unsigned int"]
    assert tags["flag"] == ["type:bool", "type:_Bool"]
    assert tags["in_td"] == ["type:inner_t", "type:inner"]
    assert tags["named"] == []


def test_params(spec: GadgetSpec) -> None:
    assert {p.key: (p.type_hint, p.default) for p in spec.params} == {
        "word": ("string", "hello"),
        "shade": ("", "GREEN"),
        "ratio": ("float32", "1.5"),
    }
