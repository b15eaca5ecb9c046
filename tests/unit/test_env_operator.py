"""Environment variables as fields: only those that are allowed."""

from __future__ import annotations

import pytest

from ig_py.errors import MetadataError, UsageError
from ig_py.gadget.datasource import add_field
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, GadgetSpec, Kind
from ig_py.host.proc import HostView
from ig_py.operators.base import Context
from ig_py.operators.env import Env
from ig_py.operators.parts import LoadParts
from ig_py.operators.running import Host


def asked(allowed: str, **fields: str) -> Context:
    ds = DataSourceSpec("exec", DataSourceType.SINGLE)
    ds.annotations = {f"env.fields.{name}": variable for name, variable in fields.items()}
    add_field(ds, "pid", Kind.UINT32)
    params = {"operator.env.env-vars": allowed}
    return Context(GadgetSpec("g", {}, datasources=[ds]), params=params)


def instantiated(context: Context) -> Env:
    operator = Env()
    assert operator.instantiate(context)
    return operator


def test_without_annotations_there_is_nothing_to_do() -> None:
    assert not Env().instantiate(asked("HOME"))


def test_fields_have_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IG_PY_ONE", "v\udcff,\x1b")
    monkeypatch.delenv("IG_PY_NONE", raising=False)
    context = asked("IG_PY_ONE,IG_PY_NONE", one="IG_PY_ONE", none="IG_PY_NONE")
    instantiated(context).pre_start(context, LoadParts(), Host(HostView()))
    [ds] = context.spec.datasources
    assert [(f.name, f.kind) for f in ds.fields[1:]] == [
        ("one", Kind.STRING),
        ("none", Kind.STRING),
    ]
    assert [step.body for step in context.plan.steps["exec"]] == [
        {"op": "text", "dst": 1, "value": "v\ufffd,\x1b"},
        {"op": "text", "dst": 2, "value": ""},
    ]


def test_variables_that_are_not_allowed_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IG_PY_SECRET", "s3cret")
    context = asked("HOME", key="IG_PY_SECRET", home="HOME")
    operator = instantiated(context)
    assert "s3cret" not in str(context.plan.steps)
    with pytest.raises(UsageError, match="'IG_PY_SECRET', which is not allowed") as raised:
        operator.pre_start(context, LoadParts(), Host(HostView()))
    assert raised.value.remedy == "allow it: --env-vars=HOME,IG_PY_SECRET"


@pytest.mark.parametrize("name", ["", "a.b", "x y", "\x1b[2J", "x" * 65, "pid"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(MetadataError):
        Env().instantiate(asked("HOME", **{name: "HOME"}))
