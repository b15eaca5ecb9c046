"""Plans are untrusted until compiled: each impossibility is refused with its name."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from support.core_plans import PlanMaker

from ig_py import _core
from ig_py._core import CoreError, pipeline


def maker() -> PlanMaker:
    made = PlanMaker(16)
    made.field("n", "u32", 0, 4)
    made.field("t", "char", 4, 8)
    made.slot("s")
    made.field("stamp", "u64", 8, 8)
    return made


def refused(text: str) -> str:
    with pytest.raises(CoreError) as failure:
        pipeline(text)
    kind, message, log = failure.value.kind, failure.value.message, failure.value.log
    assert (kind, log) == ("plan", "")
    assert "\n" not in message
    return str(message)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"version": 1}', "{" * 1000, '{"version":1,"datasources":3}']
)
def test_other_documents(text: str) -> None:
    assert "not understood" in refused(text)


def test_other_versions() -> None:
    made = maker()
    made.document["version"] = 2
    assert "version 2" in refused(made.text())


CHANGES: list[tuple[Callable[[PlanMaker], object], str]] = [
    (lambda m: m.field("x", "u32", 14, 4), "outside the 16 bytes"),
    (lambda m: m.field("x", "u32", 2**63, 4), "outside the 16 bytes"),
    (lambda m: m.field("x", "u32", 0, 8), "cannot be U32"),
    (lambda m: m.field("x", "f64", 0, 4), "cannot be F64"),
    (lambda m: m.field("x", "u32", 0, 8, array=True, count=3), "3 elements in 8 bytes"),
    (lambda m: m.field("x", "u8", 0, 1, bits=9), "bits 9"),
    (lambda m: m.field("x", "u8", 0, 1, bits=4, bit_offset=5), "bits 4 at 5"),
    (lambda m: m.field("x", "f32", 0, 4, bits=3), "only integers"),
    (lambda m: m.field("x", "str", slot=True, array=True), "cannot be a slot"),
    (lambda m: m.field("x", "u128", 0, 16), "u128"),
    (lambda m: m.field("x", "u8", 0, 1, colour="red"), "colour"),
    (lambda m: m.fields[0].update(parent=77), "unknown parent 77"),
    (lambda m: m.fields[0].update(parent=0), "nested"),
    (lambda m: m.fields[0].update(id=1), "two fields have id 1"),
    (lambda m: m.step("errno", src=99, dst=2), "unknown field 99"),
    (lambda m: m.step("errno", src=0, dst=99), "unknown field 99"),
    (lambda m: m.step("errno", src=1, dst=2), "must be a single integer"),
    (lambda m: m.step("errno", src=0, dst=1), "must be a text slot"),
    (lambda m: m.step("timestamp", src=0, dst=2), "no 8 bytes"),
    (lambda m: m.step("timestamp", src=3, dst=2, layout="x" * 1000), "time layout"),
    (lambda m: m.step("telepathy", src=0, dst=2), "telepathy"),
    (lambda m: m.step("enum", src=0, dst=2, values=[[1.5, "A"]]), "1.5 is not a whole number"),
    (lambda m: m.step("l3endpoint", version=0, addr_raw=1, addr=2), "16 bytes of the sample"),
    (lambda m: m.step("container", mntns=None, fields={"a.b": 0}), "must be a slot"),
    (lambda m: m.filter(99, "==", "1"), "unknown field 99"),
    (lambda m: m.datasource.update(sample_size=1 << 40), "sample_size"),
    (lambda m: m.datasource.update(min_size=17), "min_size 17"),
    (lambda m: m.datasource.update(sample_size=-1), "not understood"),
    (lambda m: m.document["datasources"].append(m.datasource), "two data sources are named x"),
    (lambda m: m.mode("xml"), "xml"),
]


@pytest.mark.parametrize(("change", "why"), CHANGES, ids=[why for _, why in CHANGES])
def test_impossible_plans(change: Callable[[PlanMaker], object], why: str) -> None:
    made = maker()
    pipeline(made.text())
    change(made)
    assert why in refused(made.text())


def test_sizes_are_bounded() -> None:
    made = maker()
    for i in range(5000):
        made.field(f"f{i}", "u8", 0, 1)
    assert "fields, at most" in refused(made.text())
    made = maker()
    made.document["datasources"] = [made.datasource | {"name": f"d{i}"} for i in range(300)]
    assert "data sources" in refused(made.text())
    deep = maker()
    parent: int | None = None
    for i in range(40):
        parent = deep.field(f"p{i}", "container", parent=parent)
    assert "nested deeper" in refused(deep.text())
    assert "bytes" in refused(json.dumps({"x": "y" * (33 << 20)}))


def test_headers_and_version() -> None:
    headers = _core.headers()
    assert {"bpf/bpf_helpers.h", "bpf/bpf_core_read.h", "bpf/bpf_tracing.h"} <= headers.keys()
    assert b"bpf_helper_defs.h" in headers["bpf/bpf_helpers.h"]
    assert _core.libbpf_version() == "v1.7"


@pytest.mark.parametrize("blob", [b"", b"abc", bytes(64), b"\x9f\xeb\x01\x00" + b"\xff" * 40])
def test_invalid_btf_is_refused(blob: bytes) -> None:
    with pytest.raises(CoreError) as failure:
        _core.btf_to_c(blob)
    assert failure.value.kind == "btf"
