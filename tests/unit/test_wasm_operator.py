"""A gadget's wasm module: what it declares, its callbacks in the pipeline, how it fails."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from support.elf_writer import SIGNED
from support.gadget_objects import tracer_object
from support.gadget_runner import artifact
from support.wasm import (
    ADD_I64,
    LOOP_FOREVER,
    UNREACHABLE,
    Text,
    call,
    global_get,
    global_set,
    i32,
    i64,
    local,
    module,
)

from ig_py._core import pipeline
from ig_py.errors import IgPyError, MetadataError, ObjectError, UsageError
from ig_py.gadget.spec import Flag, Kind
from ig_py.host.proc import HostView
from ig_py.oci import media
from ig_py.oci.artifact import Artifact, Descriptor, Layer
from ig_py.operators.parts import LoadParts, Turn
from ig_py.operators.running import Host
from ig_py.operators.wasm import Wasm
from ig_py.output.columns import choose_columns, header
from ig_py.records import replace
from ig_py.runtime.plan import DataSourceOutput, PlanSettings, compile_plan
from ig_py.runtime.prepare import Prepared, prepare, read

STRING, U32, U64 = i32(12), i32(8), i32(9)
ZERO = i32(0)


def image(wasm: bytes, **metadata: Any) -> Artifact:
    """A gadget whose data source has the field ``a`` of 32 bits, with a module."""
    obj = tracer_object(lambda btf: [("a", btf.integer("int", 4, SIGNED), 0)])
    plain = artifact("x", yaml.safe_dump({"name": "x", **metadata}).encode(), obj)
    layer = Layer(Descriptor(media.WASM_LAYER, "sha256:0", len(wasm)), wasm)
    return replace(plain, layers=(*plain.layers, layer))


NAME = (
    read(
        artifact(
            "x", b"name: x\n", tracer_object(lambda btf: [("a", btf.integer("int", 4, SIGNED), 0)])
        )
    )
    .info.datasources[0]
    .name
)


def started(prepared: Prepared) -> LoadParts:
    """What the operators give to be loaded."""
    [operator] = [op for op in prepared.operators if isinstance(op, Wasm)]
    load = LoadParts()
    operator.pre_start(prepared.context, load, Host(HostView.from_env()))
    return load


def shown(prepared: Prepared, *values: int) -> list[Any]:
    """The events that are rendered of samples with these values."""
    load = started(prepared)
    names = [ds.name for ds in prepared.spec.datasources]
    outputs = {name: DataSourceOutput(mode="json") for name in names}
    settings = PlanSettings(outputs=outputs, readers=False)
    stream = pipeline(compile_plan(prepared.spec, prepared.context.plan, settings), load.guest)
    text = stream.push(NAME, [struct.pack("=i", value) for value in values]).data
    batches: list[bytes] = [text]
    stream.pump(lambda batch: batches.append(batch.data), 0)
    stream.close()
    return [json.loads(line) for line in b"".join(batches).splitlines()]


def adds_score(callback: bytes, more: bytes = b"") -> bytes:
    """A module that adds ``score``: global 0 is the data source, 1 the field, 2 is ``a``."""
    text = Text()
    init = (
        call("getDataSource", text(NAME)) + global_set(0)
        + call("dataSourceAddField", global_get(0), text("score"), U64) + global_set(1)
        + call("dataSourceGetField", global_get(0), text("a")) + global_set(2)
        + more
        + call("dataSourceSubscribe", global_get(0), i32(1), ZERO, i64(5))
    )  # fmt: skip
    return module({"gadgetInit": init}, text=text, callback=callback)


TWICE = b"\x1a".join(
    [
        call(
            "fieldSet",
            global_get(1),
            local(2),
            U64,
            *[call("fieldGetScalar", global_get(2), local(2), i32(4), ZERO)] * 2,
            ADD_I64,
        ),
        b"",
    ]
)
"""score = a + a."""


def test_fields_of_the_module_are_declared_and_filled() -> None:
    fields = {"score": {"annotations": {"columns.width": "9", "description": "Twice a"}}}
    gadget = read(image(adds_score(TWICE), datasources={NAME: {"fields": fields}}))
    field = gadget.info.datasources[0].field("score")
    assert field is not None
    assert field.kind == Kind.UINT64
    assert not field.flags & Flag.STATIC_MEMBER
    assert field.annotations["columns.width"] == "9"
    assert shown(prepare(gadget, {}), 4, 7) == [{"a": 4, "score": 8}, {"a": 7, "score": 14}]


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"operator.filter.filter": "score>10"}, [14]),
        ({"operator.filter.filter-expr": "score < 10"}, [8]),
    ],
)
def test_fields_of_the_module_are_filtered_by(given: Mapping[str, str], left: list[int]) -> None:
    gadget = read(image(adds_score(TWICE)))
    assert [e["score"] for e in shown(prepare(gadget, given), 4, 7)] == left


def test_defaults_of_the_gadget_may_name_them() -> None:
    gadget = read(image(adds_score(TWICE), paramDefaults={"operator.filter.filter": "score>10"}))
    defaults = {param.full_name: param.default for param in gadget.params}
    assert [e["a"] for e in shown(prepare(gadget, defaults), 4, 7)] == [7]


def test_annotations_may_name_them() -> None:
    annotate = f"{NAME}.score:columns.width=5"
    info = read(image(adds_score(TWICE)), annotate=(annotate,)).info
    field = info.datasources[0].field("score")
    assert field is not None and field.annotations["columns.width"] == "5"


def test_a_callback_that_traps_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    prepared = prepare(read(image(adds_score(TWICE + UNREACHABLE))), {})
    assert shown(prepared, 4, 7) == [{"a": 4, "score": 0}, {"a": 7, "score": 0}]
    [operator] = [op for op in prepared.operators if isinstance(op, Wasm)]
    with caplog.at_level(logging.WARNING):
        operator.stop()
    assert "the event is shown without it" in caplog.messages[0]
    assert caplog.messages[1].startswith("2 of 2 events and arrays were shown without")


def test_a_callback_that_loops_is_ended() -> None:
    gadget = read(image(adds_score(LOOP_FOREVER)))
    prepared = prepare(gadget, {"operator.wasm.wasm-timeout": "50ms"})
    assert [e["a"] for e in shown(prepared, 1, 2, 3, 4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("text", ["0", "soon", "2m", "-1s", "1us"])
def test_the_time_of_a_callback_is_checked(text: str) -> None:
    with pytest.raises(UsageError, match="wasm-timeout"):
        prepare(read(image(adds_score(TWICE))), {"operator.wasm.wasm-timeout": text})


@pytest.mark.parametrize(("priority", "calls"), [(-1, 3), (9000, 3), (9001, 1), (9999, 1)])
def test_callbacks_before_and_behind_filters(priority: int, calls: int) -> None:
    filtered = {f"operator.filter.filter.{NAME}": "a==2"}
    events = shown(prepare(read(image(makes_source(i32(priority), hides=b""))), filtered), 1, 2, 3)
    assert sum("word" in event for event in events) == calls
    assert [e["a"] for e in events if "a" in e] == [2]


def test_what_is_declared_in_pre_start_is_there_before_the_run() -> None:
    text = Text()
    late = (
        call("getDataSource", text(NAME)) + global_set(0)
        + call("dataSourceAddField", global_get(0), text("late"), STRING) + global_set(1)
        + call("dataSourceSubscribe", global_get(0), i32(1), ZERO, i64(5))
    )  # fmt: skip
    callback = call("fieldSet", global_get(1), local(2), STRING, text("x")) + b"\x1a"
    gadget = read(image(module({"gadgetPreStart": late}, text=text, callback=callback)))
    assert [f.full_name for f in gadget.info.datasources[0].fields] == ["a"]
    prepared = prepare(gadget, {})
    assert b"LATE" in header(choose_columns(prepared.spec.datasources[0], None))
    assert shown(prepared, 4) == [{"a": 4, "late": "x"}]


def test_the_turns_of_callbacks() -> None:
    text = Text()
    subscribe = (
        call("getDataSource", text(NAME)) + global_set(0)
        + call("dataSourceSubscribe", global_get(0), i32(1), ZERO, i64(5))
    )  # fmt: skip
    wasm = module({"gadgetInit": subscribe, "gadgetPreStart": subscribe}, text=text, callback=b"")
    prepared = prepare(read(image(wasm)), {})
    parts = prepared.context.plan
    parts.add_step(NAME, 0, op="of an operator")
    parts.add_step(NAME, 0, Turn.LAYER, op="of the eBPF layer")
    parts.add_step(NAME, -1, op="first")
    [plan] = json.loads(compile_plan(prepared.spec, parts, PlanSettings()))["datasources"]
    steps = [step["op"] for step in plan["steps"]]
    assert steps == ["first", "wasm", "of the eBPF layer", "wasm", "of an operator"]


HIDES = call("dataSourceUnreference", global_get(0)) + b"\x1a"


def makes_source(priority: bytes = ZERO, hides: bytes = HIDES) -> bytes:
    """A module whose callback emits an event of its own data source, ``found``."""
    text = Text()
    init = (
        call("getDataSource", text(NAME)) + global_set(0)
        + call("newDataSource", text("found"), i32(1)) + global_set(1)
        + call("dataSourceAddField", global_get(1), text("word"), STRING) + global_set(2)
        + call("fieldAddTag", global_get(2), text("type:word")) + b"\x1a"
        + hides
        + call("dataSourceSubscribe", global_get(0), i32(3), priority, i64(5))
    )  # fmt: skip
    callback = (
        call("dataSourceNewPacketSingle", global_get(1)) + global_set(3)
        + call("fieldSet", global_get(2), global_get(3), STRING, text("h\u00e9\x1b")) + b"\x1a"
        + call("dataSourceEmitAndRelease", global_get(1), global_get(3)) + b"\x1a"
    )  # fmt: skip
    return module({"gadgetInit": init}, text=text, callback=callback)


def test_a_data_source_of_the_module() -> None:
    declared = {"found": {"annotations": {"description": "Words"}}}
    prepared = prepare(read(image(makes_source(), datasources=declared)), {})
    [own, found] = prepared.spec.datasources
    assert own.unreferenced
    assert (found.name, found.annotations) == ("found", {"description": "Words"})
    assert "type:word" in found.fields[0].tags
    assert {"word": "h\u00e9\x1b"} in shown(prepared, 1)


def test_parameters_of_the_module() -> None:
    text = Text()
    # Fails unless the value of "mode" is found: then it is written to address 64.
    init = call("getParamValue", text("mode"), i64(8 << 32 | 64))
    params = {"wasm": {"m": {"key": "mode", "defaultValue": "fast", "description": "How"}}}
    gadget = read(image(module({"gadgetInit": init}, text=text), params=params))
    [param] = [p for p in gadget.params if p.key == "mode"]
    assert (param.full_name, param.default) == ("operator.oci.wasm.mode", "fast")
    prepare(gadget, {param.full_name: "slow"})
    with pytest.raises(ObjectError, match=r"gadgetInit failed \(status 1\): .*too small"):
        prepare(gadget, {param.full_name: "much too long"})
    with pytest.raises(ObjectError, match="no parameter"):
        read(image(module({"gadgetInit": init}, text=text)))
    twice = {"wasm": {"m": {"key": "a"}, "n": {"key": "a"}}}
    with pytest.raises(MetadataError, match="'a' is declared twice"):
        read(image(module({}), params=twice))


def test_attach_targets_are_set() -> None:
    program = read(image(module({}))).info.programs[0].name
    text = Text()
    init = (
        call("setConfig", text(f"programs.{program}.attach_to"), text("somewhere"), STRING)
        + b"\x1a"
        + call("setConfig", text("name"), text("other"), STRING)
    )
    info = read(image(module({"gadgetInit": init}, text=text))).info
    assert info.programs[0].attach_to == "somewhere"


@pytest.mark.parametrize(
    ("wasm", "said"),
    [
        (b"", "wasm module of gadget x"),
        (b"\0asm", "wasm module of gadget x"),
        (module({})[:-3], "wasm module of gadget x"),
        (module({}, version=2), "version of the interface is 2, expected: 1"),
        (module({"gadgetInit": i32(1)}), r"gadgetInit failed \(status 1\)"),
        (module({"gadgetInit": UNREACHABLE}), "gadgetInit: .*unreachable"),
    ],
)
def test_what_is_wrong_with_a_module_is_one_line(wasm: bytes, said: str) -> None:
    with pytest.raises(IgPyError, match=said) as failure:
        prepare(read(image(wasm)), {})
    assert "\n" not in str(failure.value)


def test_two_modules() -> None:
    both = image(module({}))
    layer = both.layers[-1]
    with pytest.raises(ObjectError, match="more than one wasm module"):
        read(replace(both, layers=(*both.layers, layer)))


def test_what_it_logs_is_escaped_and_named(caplog: pytest.LogCaptureFixture) -> None:
    text = Text()
    init = call("gadgetLog", i32(1), text("ill\x1b[31m\nluck")) + ZERO
    with caplog.at_level(logging.WARNING):
        read(image(module({"gadgetInit": init}, text=text)))
    assert caplog.messages == ["x (wasm): ill\\x1b[31m\\nluck"]
