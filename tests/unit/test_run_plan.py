"""The plan, parameters' bytes, what can be run, and where tracefs is needed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ig_py.errors import ObjectError, UsageError
from ig_py.gadget.spec import (
    DataSourceSpec,
    DataSourceType,
    FieldSpec,
    Flag,
    GadgetSpec,
    Kind,
    MapSpec,
    ParamSpec,
    VariableSpec,
)
from ig_py.host import private_mount, tracefs
from ig_py.operators.parts import PlanParts, Step
from ig_py.runtime.plan import Clock, DataSourceOutput, PlanSettings, compile_plan
from ig_py.runtime.prepare import encode_values

STATIC = Flag.STATIC_MEMBER


def gadget(*fields: FieldSpec) -> GadgetSpec:
    for index, field in enumerate(fields):
        field.index = index
    ds = DataSourceSpec("d", DataSourceType.SINGLE, map="events", sample_size=64)
    ds.fields = list(fields)
    return GadgetSpec("g", {}, datasources=[ds])


def plan(spec: GadgetSpec, parts: PlanParts | None = None, **settings: Any) -> dict[str, Any]:
    text = compile_plan(spec, parts or PlanParts(), PlanSettings(**settings))
    compiled: dict[str, Any] = json.loads(text)
    return compiled


def fields(*given: FieldSpec) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = plan(gadget(*given))["datasources"][0]["fields"]
    return result


def test_kinds() -> None:
    kinds = {
        Kind.BOOL: "bool", Kind.INT8: "i8", Kind.INT16: "i16", Kind.INT32: "i32",
        Kind.INT64: "i64", Kind.UINT8: "u8", Kind.UINT16: "u16", Kind.UINT32: "u32",
        Kind.UINT64: "u64", Kind.FLOAT32: "f32", Kind.FLOAT64: "f64", Kind.STRING: "str",
        Kind.CSTRING: "char", Kind.BYTES: "bytes",
    }  # fmt: skip
    given = [FieldSpec(f"f{k}", f"f{k}", 0, k, flags=STATIC) for k in kinds]
    assert [f["kind"] for f in fields(*given)] == list(kinds.values())


def test_a_field() -> None:
    (got,) = fields(FieldSpec("x", "a.x", 0, Kind.UINT32, offset=8, size=4, flags=STATIC))
    assert got == {
        "id": 0, "name": "x", "full_name": "a.x", "parent": None, "kind": "u32",
        "offset": 8, "size": 4, "count": 1, "json": True,
    }  # fmt: skip


def test_slots_arrays_bits_and_parents() -> None:
    parent, child, array, bits, slot = fields(
        FieldSpec("p", "p", 0, Kind.BYTES, offset=0, size=16, flags=STATIC),
        FieldSpec("c", "p.c", 0, Kind.UINT8, parent=0, flags=STATIC | Flag.HAS_PARENT),
        FieldSpec("a", "a", 0, Kind.UINT16, array=True, size=8, count=4, flags=STATIC),
        FieldSpec("b", "b", 0, Kind.UINT32, size=4, bit_size=3, bit_offset=2, flags=STATIC),
        FieldSpec("s", "s", 0, Kind.INT64),
    )
    assert (parent["kind"], parent["size"]) == ("container", 16)
    assert (child["kind"], child["parent"]) == ("u8", 0)
    assert (array["array"], array["count"]) == (True, 4)
    assert (bits["bits"], bits["bit_offset"]) == (3, 2)
    assert slot["slot"]
    assert not any("slot" in f for f in (parent, child, array, bits))


def test_fields_that_stay_out_of_json() -> None:
    skip = {"json.skip": "true"}
    got = fields(
        FieldSpec("a", "a", 0, Kind.UINT8, flags=STATIC, annotations=skip),
        FieldSpec("b", "b", 0, Kind.UINT8, flags=STATIC | Flag.UNREFERENCED),
        FieldSpec("c", "c", 0, Kind.UINT8, flags=STATIC | Flag.HIDDEN),
    )
    assert [f["json"] for f in got] == [False, False, True]


def test_a_field_without_a_type() -> None:
    with pytest.raises(ObjectError, match='"x"'):
        fields(FieldSpec("x", "x", 0, Kind.INVALID))
    (group,) = fields(FieldSpec("x", "x", 0, Kind.INVALID, flags=Flag.EMPTY))
    assert group["kind"] == "container"


def test_perf_buffers_have_a_size() -> None:
    assert "perf_bytes" not in plan(gadget())["datasources"][0]
    assert plan(gadget(), perf_bytes={"events": 1 << 20})["datasources"][0]["perf_bytes"] == 1 << 20


def test_steps_keep_their_order_within_a_priority() -> None:
    steps = [Step(5, {"op": "c"}), Step(0, {"op": "a"}), Step(5, {"op": "d"}), Step(0, {"op": "b"})]
    ds = plan(gadget(), PlanParts(steps={"d": steps, "other": [Step(0, {"op": "x"})]}))[
        "datasources"
    ][0]
    assert [s["op"] for s in ds["steps"]] == ["a", "b", "c", "d"]


def test_clock_filters_and_output() -> None:
    got = plan(
        gadget(),
        PlanParts(filters={"d": [{"field": 0, "op": "==", "value": "x"}]}),
        clock=Clock(5, 3600),
        outputs={"d": DataSourceOutput("columns", [{"field": 0}], keep=True)},
    )
    assert (got["version"], got["clock_offset_ns"], got["timezone_offset_s"]) == (1, 5, 3600)
    ds = got["datasources"][0]
    assert ds["filters"] == [{"field": 0, "op": "==", "value": "x"}]
    assert ds["output"] == {"mode": "columns", "columns": [{"field": 0}]}
    assert (ds["keep"], ds["sample_size"], ds["map"]) == (True, 64, "events")


def test_where_losses_are_counted() -> None:
    spec = gadget()
    assert not {"loss_map", "loss_var"} & set(plan(spec)["datasources"][0])
    spec.variables = [VariableSpec("gadget_lost_samples_events", ".bss", 16, 8)]
    assert plan(spec)["datasources"][0]["loss_var"] == {"section": ".bss", "offset": 16}
    spec.maps = [MapSpec("events_lost_samples", 6, 4, 8, 1)]
    assert plan(spec)["datasources"][0]["loss_map"] == "events_lost_samples"
    assert "map" not in plan(spec, readers=False)["datasources"][0]


def test_the_clock_is_the_cores_to_follow() -> None:
    got = plan(gadget())
    assert (got["clock_offset_ns"], got["timezone_offset_s"]) == (None, None)


def param(variable: str, hint: str, default: str, size: int) -> ParamSpec:
    return ParamSpec(variable, "p.", default=default, type_hint=hint, variable=variable, size=size)


def test_values_of_parameters() -> None:
    spec = gadget()
    spec.params = [
        param("pid", "uint32", "0", 4),
        param("comm", "string", "", 16),
        param("odd", "", "", 12),
        ParamSpec("host", "operator.LocalManager.", default="false"),
    ]
    given = {"p.pid": "258", "operator.LocalManager.host": "true"}
    assert encode_values(spec, given) == {"pid": b"\x02\x01\0\0", "comm": bytes(16)}
    with pytest.raises(UsageError, match="'pid'"):
        encode_values(spec, {"p.pid": "x"})
    with pytest.raises(UsageError, match='"pid" is empty'):
        encode_values(spec, {"p.pid": ""})
    with pytest.raises(UsageError):
        encode_values(spec, {"p.odd": "something"})


@pytest.mark.parametrize(
    ("section", "needed"),
    [("tracepoint/a/b", True), ("tp/a/b", True), ("?kprobe/f", True), ("kretprobe/f", True),
     ("uprobe/x:y", True), ("raw_tp/x", False), ("tp_btf/x", False), ("fentry/f", False),
     ("iter/task", False)],
)  # fmt: skip
def test_sections_that_need_tracefs(section: str, needed: bool) -> None:
    assert tracefs.needs_tracefs(section) == needed


def test_tracefs_for_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracefs, "mounted", lambda: True)
    assert tracefs.with_tracefs(lambda: 3) == 3
    monkeypatch.setattr(tracefs, "mounted", lambda: False)
    monkeypatch.setattr(private_mount, "_mount", lambda *_: None)
    assert tracefs.with_tracefs(lambda: 4) == 4

    def fails() -> None:
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        tracefs.with_tracefs(fails)
