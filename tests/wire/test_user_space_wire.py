"""Gadgets of metadata alone: fields, lines and rows as `ig` prints them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ig_py._core import pipeline
from ig_py.gadget.load import build_spec
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import Flag
from ig_py.host.proc import HostView
from ig_py.inspect.extra_info import datasources_document
from ig_py.operators import instantiate_all
from ig_py.operators._processes import Machine, ProcessReader
from ig_py.operators.base import Context, Operator
from ig_py.operators.bpf_stats import BpfStats
from ig_py.operators.process_stats import _BY_CHOICE, ProcessStats
from ig_py.output.columns import choose_columns, header
from ig_py.runtime.plan import DataSourceOutput, PlanSettings, compile_plan

FACTS = json.loads((Path(__file__).parent / "data/user_space.json").read_text())
MNTNS = 4026532177
BOOT = 1_795_411_036


def instantiated(gadget: str) -> tuple[Context, list[Operator]]:
    spec = build_spec(Metadata(FACTS[gadget]["config"]), None, name=gadget, source=gadget)
    ctx = Context(spec)
    return ctx, instantiate_all(ctx)


@pytest.mark.parametrize("gadget", FACTS)
def test_fields(gadget: str) -> None:
    ctx, _ = instantiated(gadget)
    [document] = datasources_document(ctx.spec)
    assert document["annotations"] == FACTS[gadget]["annotations"]
    for field in document["fields"]:
        # The words are ours.
        field["annotations"].pop("description", None)
    groups = [f["fullName"] for f in document["fields"] if f.get("flags", 0) & Flag.EMPTY]
    inside = tuple(f"{group}." for group in groups)
    own = [
        f
        for f in document["fields"]
        if f["fullName"] not in groups and not f["fullName"].startswith(inside)
    ]
    assert own == FACTS[gadget]["fields"]
    assert bool(groups) == (gadget != "bpfstats")


@pytest.mark.parametrize("gadget", FACTS)
def test_header(gadget: str) -> None:
    ctx, _ = instantiated(gadget)
    [ds] = ctx.spec.datasources
    assert header(choose_columns(ds, None)).decode().rstrip("\n") == FACTS[gadget]["header"]


class Host(HostView):
    """One process of a made-up /proc."""

    def namespace(self, pid: int, kind: str) -> int | None:
        return MNTNS

    def put(self, ticks: int, resident: int, shared: int, size: int, started: int) -> None:
        here = Path(self.proc, "1")
        here.mkdir(parents=True, exist_ok=True)
        middle = "0 1 1 0 -1 0 0 0 0 0"
        counts = f"20 0 8 0 {started} {size}"
        (here / "stat").write_text(f"1 (ig) S {middle} {ticks} 0 0 0 {counts} 1\n")
        (here / "statm").write_text(f"{size // 4096} {resident // 4096} {shared // 4096} 0 0 0 0")
        (here / "status").write_text("Name:\tig\nUid:\t0\t0\t0\t0\n")


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def rendered(ctx: Context, samples: list[bytes], mode: str) -> str:
    [ds] = ctx.spec.datasources
    columns = [c.plan() for c in choose_columns(ds, None)] if mode == "columns" else []
    settings = PlanSettings({ds.name: DataSourceOutput(mode, columns)})
    plan = compile_plan(ctx.spec, ctx.plan, settings)
    return pipeline(plan).push(ds.name, samples).data.decode()


def sample(operators: list[Operator], kind: type[Operator], row: Any) -> bytes:
    [operator] = [op for op in operators if isinstance(op, kind)]
    packed: bytes = operator._samples.pack(row)  # type: ignore[attr-defined]
    return packed


def test_a_line_of_processes(tmp_path: Path) -> None:
    ctx, operators = instantiated("top_process")
    host, clock = Host(str(tmp_path)), iter([1_000_000_000, 2_000_674_893])
    machine = Machine(BOOT, 100, 2, 24_684_084 << 10, 4096)
    reader = ProcessReader(host, frozenset(_BY_CHOICE), machine, clock.__next__)
    host.put(16, 0, 0, 0, 253_673)
    list(reader.read())
    host.put(17, 80_183_296, 57_663_488, 2_003_726_336, 253_673)
    [row] = reader.read()
    line = rendered(ctx, [sample(operators, ProcessStats, row)], "json")
    assert line == FACTS["top_process"]["text"] + "\n"


def test_a_row_of_processes(tmp_path: Path) -> None:
    ctx, operators = instantiated("top_process")
    host, clock = Host(str(tmp_path)), iter([1_000_000_000, 2_000_000_000])
    machine = Machine(BOOT, 100, 2, 24_684_084 << 10, 4096)
    reader = ProcessReader(host, frozenset(_BY_CHOICE), machine, clock.__next__)
    host.put(13, 0, 0, 0, 251_400)
    list(reader.read())
    host.put(17, 82_000_000, 58_000_000, 1_900_000_000, 251_400)
    [row] = reader.read()
    line = rendered(ctx, [sample(operators, ProcessStats, row)], "columns")
    assert line == FACTS["top_process"]["row"] + "\n"


def test_a_row_of_programs() -> None:
    ctx, operators = instantiated("bpfstats")
    texts = ("gadgetID", "gadgetName", "gadgetImage", "comms", "pids")
    row: dict[str, Any] = dict.fromkeys(texts, b"") | {
        "progID": 4786,
        "progName": b"ig_sig_generate",
        "progType": b"TracePoint",
        "cpuUsage": 0.0013,
        "cpuUsageRelative": 0.0007,
        "cpuTimeStr": "13.089µs".encode(),
        "runtime_raw": 13_089,
        "runcount": 1,
        "mapMemory_raw": 387_904,
        "mapCount": 5,
    }
    line = rendered(ctx, [sample(operators, BpfStats, row)], "columns")
    assert line == FACTS["bpfstats"]["row"] + "\n"
