"""Stacks: which fields get texts, and what the core makes of them without a kernel."""

from __future__ import annotations

from typing import Any

import pytest
from support.core_plans import PlanMaker

from ig_py._core import CoreError, pipeline
from ig_py.errors import ObjectError, UsageError
from ig_py.gadget.datasource import add_field, new_datasource
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceType, GadgetSpec, Kind, MapSpec
from ig_py.gadget.templates import BASE
from ig_py.operators.base import Context
from ig_py.operators.stacks import _MEMBERS, KernelStack, UserStack

STACKS = MapSpec("ig_kstack", 7, 4, 1016, 10000)
USER_STACKS = MapSpec("ig_ustack", 7, 4, 1016, 10000)


def spec(*maps: MapSpec, members: tuple[str, ...] = _MEMBERS) -> GadgetSpec:
    ds = new_datasource("d", DataSourceType.SINGLE, Metadata({}))
    add_field(ds, "k_raw", Kind.UINT32, tags=["type:gadget_kernel_stack"])
    add_field(ds, "unnamed", Kind.UINT32, tags=["type:gadget_kernel_stack"])
    stack = add_field(ds, "u", Kind.BYTES, tags=["type:gadget_user_stack"])
    for name in members:
        add_field(ds, name, Kind.UINT64, parent=stack)
    return GadgetSpec("g", {}, datasources=[ds], maps=list(maps))


def test_a_kernel_stack_has_a_twin() -> None:
    context = Context(spec(STACKS))
    assert KernelStack().instantiate(context)
    [ds] = context.spec.datasources
    formatted = ds.field("k")
    assert formatted is not None and not formatted.hidden and ds.fields[0].hidden
    unnamed = ds.field("unnamed")
    assert unnamed is not None and unnamed.hidden
    assert any("'unnamed'" in note and "no column" in note for note in ds.notes)
    assert formatted.annotations == dict(BASE)
    [step] = context.plan.steps["d"]
    assert step.body == {
        "op": "kernel_stack",
        "src": 0,
        "dst": formatted.index,
        "map": "ig_kstack",
    }


def test_a_user_stack_has_texts_below_it() -> None:
    context = Context(spec(USER_STACKS))
    assert UserStack().instantiate(context)
    [ds] = context.spec.datasources
    texts = [ds.field(f"u.{name}") for name in ("addresses", "buildid", "symbols")]
    assert all(f is not None and f.hidden for f in texts)
    body = context.plan.steps["d"][0].body
    assert [body[f.name] for f in texts if f] == [f.index for f in texts if f]
    assert body["build_id_map"] is None
    assert [p.key for p in context.spec.params] == [
        "symbolizers",
        "debuginfod-cache-path",
    ]


@pytest.mark.parametrize(("text", "named"), [("", True), ("symtab", True), ("none", False)])
def test_symbolizers(text: str, named: bool) -> None:
    context = Context(spec(USER_STACKS), {"operator.ustack.symbolizers": text})
    UserStack().instantiate(context)
    assert (context.plan.steps["d"][0].body["symbols"] is not None) == named


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("", {"symtab": True}),
        ("auto,debuginfod-cache", {"symtab": True, "debuginfod": "/given"}),
        ("debuginfod-cache", {"symtab": False, "debuginfod": "/given"}),
        ("symtab, debuginfod-cache", {"symtab": True, "debuginfod": "/given"}),
    ],
)
def test_where_names_come_from(text: str, sources: dict[str, Any]) -> None:
    params = {"operator.ustack.symbolizers": text}
    if "debuginfod" in sources:
        params["operator.ustack.debuginfod-cache-path"] = "/given"
    context = Context(spec(USER_STACKS), params)
    UserStack().instantiate(context)
    assert context.plan.symbols == sources


@pytest.mark.parametrize("text", ["", "auto", "none", "symtab"])
def test_a_cache_that_is_not_read_is_refused(text: str) -> None:
    name = "operator.ustack.debuginfod-cache-path"
    params = {"operator.ustack.symbolizers": text, name: "/given"}
    with pytest.raises(UsageError, match="--debuginfod-cache-path has no effect"):
        UserStack().instantiate(Context(spec(USER_STACKS), params))
    declared = spec(USER_STACKS)
    declared.metadata["paramdefaults"] = {name: "/given"}
    UserStack().instantiate(Context(declared, params))


def test_the_usual_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def cache() -> str:
        context = Context(spec(USER_STACKS), {"operator.ustack.symbolizers": "debuginfod-cache"})
        UserStack().instantiate(context)
        return str(context.plan.symbols["debuginfod"])

    monkeypatch.delenv("DEBUGINFOD_CACHE_PATH", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache() == "/home/me/.cache/debuginfod_client"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache() == "/xdg/debuginfod_client"
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", "/own")
    assert cache() == "/own"


@pytest.mark.parametrize("text", ["gdb", "none,symtab", "debuginfod-cache-on-ig-server"])
def test_wrong_symbolizers(text: str) -> None:
    with pytest.raises(UsageError, match="--symbolizers"):
        UserStack().instantiate(Context(spec(), {"operator.ustack.symbolizers": text}))


def test_stacks_without_their_maps() -> None:
    with pytest.raises(ObjectError, match='no map "ig_kstack"'):
        KernelStack().instantiate(Context(spec()))
    with pytest.raises(ObjectError, match='no map "ig_ustack"'):
        UserStack().instantiate(Context(spec()))


def test_another_struct_of_that_name() -> None:
    context = Context(spec(USER_STACKS, members=_MEMBERS[1:]))
    assert not UserStack().instantiate(context)
    assert "has no 'stack_id'" in context.spec.datasources[0].notes[0]


def maker(**changes: Any) -> PlanMaker:
    made = PlanMaker(4)
    made.field("id", "u32", 0, 4)
    made.slot("text")
    made.step("kernel_stack", **({"src": 0, "dst": 1, "map": "ig_kstack"} | changes))
    return made


def test_without_a_kernel_stacks_are_lost() -> None:
    stream = pipeline(maker().text())
    assert stream.push("x", [bytes(4)]).data == b'{"id":0,"text":""}\n'
    assert stream.lost_stacks() == 1


@pytest.mark.parametrize("changes", [{"src": 1}, {"dst": 0}, {"map": 3}])
def test_impossible_stacks(changes: dict[str, Any]) -> None:
    with pytest.raises(CoreError):
        pipeline(maker(**changes).text())
