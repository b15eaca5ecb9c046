"""One run reads each blob of its image once, and instantiates each operator once where it can."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.gadget_objects import tracer_object
from support.gadget_runner import artifact
from support.images import CREATED, name

from ig_py import operators
from ig_py.cli import main
from ig_py.gadget.datasource import add_field, new_datasource
from ig_py.gadget.load import load_gadget
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceType, GadgetSpec, Kind, MapSpec
from ig_py.host.architecture import host_architecture
from ig_py.oci import source
from ig_py.oci.pack import GadgetFiles, pack
from ig_py.oci.store import Store
from ig_py.operators.base import Context, Operator
from ig_py.operators.stacks import _MEMBERS
from ig_py.runtime import run
from ig_py.runtime.prepare import Prepared, prepare, read
from ig_py.runtime.state import Stopped

METADATA: dict[str, Any] = {
    "name": "g",
    "datasources": {"ds": {"annotations": {"metrics.print": "true"}}},
    "operator": {
        "ebpf": {"emitstats": True},
        "process": {"emitstats": True},
        "cgroup": {"emitstats": True},
    },
}
COUNTER = {"annotations": {"metrics.type": "counter"}}


def tracer() -> bytes:
    """With a mount namespace in its events, so that containers can be selected."""
    return tracer_object(
        lambda btf: [
            ("pid", btf.integer("__u32", 4), 0),
            ("mntns_id", btf.typedef("gadget_mntns_id", btf.integer("__u64", 8)), 64),
        ]
    )


class Counted:
    """*blobs*: how often each was opened; *instantiated*: how often each operator was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blobs: Counter[str] = Counter()
        self.instantiated: Counter[str] = Counter()
        self.prepared: list[Prepared] = []
        open_beneath, instances = source.open_beneath, operators.instances

        def opened(root: Path, path: str, **conditions: Any) -> Any:
            self.blobs[Path(path).name] += "blobs" in Path(path).parts
            return open_beneath(root, path, **conditions)

        def counted(operator: Operator) -> Operator:
            instantiate = operator.instantiate

            def wrapped(ctx: Context) -> bool:
                self.instantiated[type(operator).__name__] += 1
                return instantiate(ctx)

            operator.instantiate = wrapped  # type: ignore[method-assign]
            return operator

        monkeypatch.setattr(source, "open_beneath", opened)
        monkeypatch.setattr(operators, "instances", lambda: [counted(o) for o in instances()])
        monkeypatch.setattr(run, "Run", self._stop)
        monkeypatch.setattr(os, "geteuid", lambda: 0)

    def _stop(self, prepared: Prepared, *_args: Any, **_more: Any) -> None:
        self.prepared.append(prepared)
        raise Stopped


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    monkeypatch.setenv("IG_PY_STORE", str(tmp_path))
    files = {host_architecture(): GadgetFiles(ebpf=tracer())}
    packed = pack(files, b"name: x\n", builder_version="v0.1.0", created=CREATED)
    Store(tmp_path).add(packed, name("x:1"))
    return Counted(monkeypatch)


@pytest.mark.parametrize("flags", [(), ("--host",), ("-c", "name", "--runtimes=runc")])
def test_values_that_operators_read_later(counted: Counted, flags: tuple[str, ...]) -> None:
    assert main(["run", "x:1", "--verify-image=false", *flags]) == 0
    assert len(counted.prepared) == 1
    # Index, manifest, metadata, eBPF object.
    assert sorted((+counted.blobs).values()) == [1, 1, 1, 1]
    assert set(counted.instantiated.values()) == {1}
    assert len(counted.instantiated) == len(operators.instances())


@pytest.mark.parametrize("flags", [("--filter=pid==1",), ("--filter-expr", "pid > 1")])
def test_values_that_operators_declare_by(counted: Counted, flags: tuple[str, ...]) -> None:
    assert main(["run", "x:1", "--verify-image=false", *flags]) == 0
    assert sorted((+counted.blobs).values()) == [1, 1, 1, 1]
    assert set(counted.instantiated.values()) == {2}
    context = counted.prepared[0].context
    assert context.plan.filters or context.plan.conditions


def everything() -> GadgetSpec:
    """A spec on which every operator with parameters acts."""
    spec = load_gadget(artifact("x", yaml.safe_dump(METADATA).encode(), tracer()))
    spec.datasources[0].fields[0].annotations |= COUNTER["annotations"]
    array = new_datasource("rows", DataSourceType.ARRAY, Metadata(METADATA))
    add_field(array, "pid", Kind.UINT32)
    stack = add_field(array, "stack", Kind.BYTES, tags=["type:gadget_user_stack"])
    for member in _MEMBERS:
        add_field(array, member, Kind.UINT64, parent=stack)
    spec.datasources.append(array)
    spec.maps += [MapSpec("ig_ustack", 7, 4, 1016, 10000)]
    return spec


def declared(context: Context, active: list[Operator]) -> dict[str, Any]:
    """All that instantiating has made, and when the operators are to report."""
    timers = [(vars(op).get("_interval"), vars(op).get("_pace")) for op in active]
    return {"spec": context.spec, "plan": context.plan, "timers": timers}


def test_a_parameter_without_value_has_its_built_in_default() -> None:
    """What lets ``prepare`` use the operators that ``read`` instantiated without values."""
    without = Context(everything())
    instances = operators.instantiate_all(without)
    active = {type(operator).__name__ for operator in instances}
    defaults = {p.full_name: p.default for p in without.spec.params}
    with_parameters = {name.split(".")[1] for name in defaults if name.startswith("operator.")}
    assert with_parameters == {
        "LocalManager", "ebpf", "filter", "limiter", "oci", "otel-metrics", "sort",
        "ustack",
    }  # fmt: skip
    assert {
        "BpfStats",
        "ProcessStats",
        "CgroupStats",
        "OtelMetrics",
        "UserStack",
        "Limiter",
    } <= active
    given = Context(everything(), defaults)
    found = declared(given, operators.instantiate_all(given))
    assert found == declared(without, instances)
    assert len(list(filter(any, found["timers"]))) == 4


def test_defaults_of_the_gadget_reach_its_operators() -> None:
    config = {"name": "x", "paramDefaults": {"operator.filter.filter": "pid==7"}}
    gadget = read(artifact("x", yaml.safe_dump(config).encode(), tracer()))
    assert prepare(gadget, {}).context.plan.filters["ds"]


def test_each_run_has_operators_of_its_own() -> None:
    gadget = read(artifact("x", b"name: x\n", tracer()))
    first, second = prepare(gadget, {}), prepare(gadget, {})
    assert first.context is not second.context and first.spec is not second.spec
    assert not set(map(id, first.operators)) & set(map(id, second.operators))
    assert first.spec == second.spec


def test_the_operators_see_the_values() -> None:
    gadget = read(artifact("x", b"name: x\n", tracer()), values={"operator.oci.pull": "never"})
    context = prepare(gadget, {"operator.LocalManager.host": "true"}).context
    assert context.param("operator.LocalManager.host") == "true"
    assert context.param("operator.oci.pull") == "never"
    assert context.image == "x"
