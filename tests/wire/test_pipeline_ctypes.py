"""A sample of every C type, decoded by the core by the plan of the compiled struct."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.gadget_objects import spec_of

from ig_py.gadget.spec import GadgetSpec
from ig_py.operators.base import Context
from ig_py.operators.ebpf_enum import EbpfEnum

pytestmark = pytest.mark.needs("clang")
SOURCE = Path(__file__).parent / "data" / "ctypes" / "every_type.bpf.c"

SAMPLE = {
    "comm": ("5s", b"hello"),
    "uid": ("I", 1000),
    "s8": ("b", -1),
    "c": ("b", 65),
    "uc": ("B", 200),
    "flag": ("?", True),
    "f32": ("f", 1.5),
    "f64": ("d", -2.25),
    "numbers": ("3H", 1, 2, 65535),
    "bytes": ("4B", 0, 1, 254, 255),
    "flags": ("2?", True, False),
    "texts": ("4s4s", b"ab", b"wxyz"),
    "in.a": ("I", 5),
    "in.s": ("2s", b"q"),
    "in_td.a": ("I", 6),
    "uu": ("I", 0x01020304),
    "named.x": ("I", 9),
    "anon": ("I", 10),
    "color_raw": ("I", 2),
    "colortd_raw": ("I", 7),
    "level_raw": ("i", -1),
    "bf1": ("I", 2 << 4 | 3),
    "constant": ("I", 11),
    "quick": ("Q", (1 << 64) - 1),
}
EVENT = {
    "comm": "hello",
    "uid": 1000,
    "s8": -1,
    "c": 65,
    "uc": 200,
    "flag": True,
    "f32": 1.5,
    "f64": -2.25,
    "numbers": [1, 2, 65535],
    "bytes": [0, 1, 254, 255],
    "flags": [True, False],
    "texts": ["ab", "wxyz"],
    "in": {"a": 5, "s": "q"},
    "in_td": {"a": 6, "s": ""},
    "uu": {"b": [4, 3, 2, 1], "u": 0x01020304},
    "named": {"x": 9},
    "anon": 10,
    "color": "GREEN",
    "color_raw": 2,
    "colortd": "UNKNOWN",
    "colortd_raw": 7,
    "level": "LOW",
    "bf1": 3,
    "bf2": 2,
    "constant": 11,
    "quick": (1 << 64) - 1,
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> GadgetSpec:
    from support.bpf_build import clang

    out = tmp_path_factory.mktemp("pipeline") / "o"
    subprocess.run(
        [clang(), "-target", "bpf", "-g", "-O2", "-c", str(SOURCE), "-o", str(out)],
        check=True,
        timeout=60,
    )
    return spec_of(out.read_bytes())


def event_of(spec: GadgetSpec) -> dict[str, Any]:
    from ig_py import _core
    from ig_py.runtime.plan import DataSourceOutput, PlanSettings, compile_plan

    context = Context(spec)
    EbpfEnum().instantiate(context)
    [ds] = spec.datasources
    sample = bytearray(ds.sample_size)
    for name, (form, *values) in SAMPLE.items():
        field = ds.field(name)
        assert field is not None
        struct.pack_into("<" + form, sample, field.offset, *values)
    outputs = {ds.name: DataSourceOutput("json")}
    plan = compile_plan(spec, context.plan, PlanSettings(outputs, readers=False))
    stream = _core.pipeline(plan)
    try:
        event: dict[str, Any] = json.loads(stream.push(ds.name, [bytes(sample)]).data)
    finally:
        stream.close()
    return event


def test_every_type_has_its_value(spec: GadgetSpec) -> None:
    event = event_of(spec)
    # Signed only where the compiler says so: clang 14 does not.
    assert event.pop("level_raw") in (-1, 0xFFFFFFFF)
    assert event == EVENT
