"""What eBPF programs take, on a core that makes it up."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from support.fake_core import CoreError
from support.live_run import running

import ig_py
from ig_py.errors import ContainerError, KernelError, UsageError
from ig_py.gadget.spec import GadgetSpec
from ig_py.host.proc import HostView
from ig_py.operators import bpf_stats
from ig_py.operators._bpf_holders import RESCAN_SECONDS, Holders
from ig_py.operators.base import Context
from ig_py.operators.bpf_stats import BpfStats

Row = tuple[int, int, str, int, int, list[int]]
PREFIX = "operator.ebpf."


class Kernel:
    """*programs* as the core returns them; *failure* is raised when counting begins."""

    def __init__(self) -> None:
        self.programs: list[Row] = []
        self.memory = {1: 1000, 2: 200, 3: 30}
        self.failure: CoreError | None = None
        self.open = 0

    def statistics(self, count: bool = True) -> Kernel:
        if count and self.failure:
            raise self.failure
        self.open += 1
        return self

    def read(self) -> tuple[list[Row], dict[int, int]]:
        return list(self.programs), self.memory

    def close(self) -> None:
        self.open -= 1


class Object:
    def program_ids(self) -> list[int]:
        return [7, 8]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    kernel = Kernel()
    module = types.ModuleType("ig_py._core")
    module.__dict__.update(CoreError=CoreError, ProgramStatistics=kernel.statistics)
    monkeypatch.setitem(sys.modules, "ig_py._core", module)
    monkeypatch.setattr(ig_py, "_core", module, raising=False)
    monkeypatch.setattr(bpf_stats.time, "monotonic_ns", iter(range(0, 10**12, 10**9)).__next__)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").touch()
    monkeypatch.setenv("HOST_ROOT", str(tmp_path))
    monkeypatch.delenv("NODE_NAME", raising=False)
    return kernel


class Reporting:
    """The operator, its reports as values by field name."""

    def __init__(self, **params: str) -> None:
        given = {PREFIX + key.replace("_", "-"): value for key, value in params.items()}
        spec = GadgetSpec("costs", {"operator": {"ebpf": {"emitstats": True}}})
        self.ctx = Context(spec, params=given, image="costs:1")
        self.operator = BpfStats()
        assert self.operator.instantiate(self.ctx)
        self.samples = self.operator._samples
        self.rows: list[dict[str, Any]] = []
        self.running = running(emit=lambda _n, samples: self.rows.extend(map(self.values, samples)))

    def start(self) -> None:
        self.operator.start(self.ctx, self.running)

    def values(self, sample: bytes) -> dict[str, Any]:
        assert self.samples is not None
        unpacked = self.samples._struct.unpack(sample)
        texts = [v.rstrip(b"\0").decode() if isinstance(v, bytes) else v for v in unpacked]
        return dict(zip(self.samples.names, texts, strict=True))

    def report(self) -> list[dict[str, Any]]:
        self.rows.clear()
        self.running.timers[0].work()
        return list(self.rows)


def test_run_time_and_memory_of_programs(kernel: Kernel) -> None:
    kernel.programs = [(5, 5, "old", 1_000_000, 100, [1, 2]), (7, 17, "own", 0, 0, [])]
    reporting = Reporting()
    reporting.running.object = Object()  # type: ignore[assignment]
    reporting.start()
    kernel.programs = [
        (5, 5, "old", 251_000_000, 600, [1, 2]),
        (7, 17, "own", 0, 0, []),
        (9, 99, "new", 13_089, 1, [3, 4]),
    ]
    old, own, new = reporting.report()
    assert old == {
        "gadgetID": "", "gadgetName": "", "gadgetImage": "",
        "progID": 5, "progName": "old", "progType": "TracePoint",
        "cpuUsage": 25.0, "cpuUsageRelative": 25.0 / (os.cpu_count() or 1),
        "cpuTimeStr": "251ms", "runtime_raw": 250_000_000, "runcount": 500,
        "mapMemory_raw": 1200, "mapCount": 2, "comms": "", "pids": "",
    }  # fmt: skip
    assert (own["gadgetName"], own["gadgetImage"]) == ("costs", "costs:1")
    assert len(own["gadgetID"]) == 32
    assert own["progType"] == "RawTracepoint"
    assert (new["progType"], new["cpuTimeStr"]) == ("ProgramType(99)", "13.089µs")
    assert (new["runtime_raw"], new["runcount"]) == (13_089, 1)
    assert (new["mapMemory_raw"], new["mapCount"]) == (30, 2)
    assert [row["runcount"] for row in reporting.report()] == [0, 0, 0]
    reporting.operator.stop()
    reporting.operator.stop()
    assert kernel.open == 0


def test_gadgets_only(kernel: Kernel) -> None:
    reporting = Reporting(gadgets_only="true")
    reporting.start()
    kernel.programs = [
        (5, 5, "other", 50, 5, [1]),
        (7, 5, "a", 1000, 10, [1, 2]),
        (8, 5, "b", 500, 1, [2, 3]),
    ]
    assert reporting.report() == []
    reporting.running.object = Object()  # type: ignore[assignment]
    kernel.programs[1] = (7, 5, "a", 2000, 12, [1, 2])
    [row] = reporting.report()
    assert (row["progID"], row["progName"], row["progType"]) == (0, "", "")
    assert (row["gadgetName"], row["runtime_raw"], row["runcount"]) == ("costs", 1000, 2)
    assert (row["cpuTimeStr"], row["mapMemory_raw"], row["mapCount"]) == ("2.5µs", 1230, 3)


def test_gadgets_only_reads_no_descriptors(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    reporting = Reporting(gadgets_only="true")
    reporting.start()
    monkeypatch.setattr(Holders, "of", lambda *_: pytest.fail("looked for holders"))
    reporting.running.object = Object()  # type: ignore[assignment]
    kernel.programs = [(7, 5, "a", 1000, 10, [1])]
    assert len(reporting.report()) == 1


def test_names_that_are_no_text(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "n\udcff")
    reporting = Reporting()
    reporting.start()
    reporting.running.object = Object()  # type: ignore[assignment]
    reporting.ctx.image = "costs\udcff"
    kernel.programs = [(7, 5, "a\udcff", 1000, 10, [1])]
    [row] = reporting.report()
    assert (row["nodeName"], row["gadgetImage"], row["progName"]) == ("n?", "costs?", "a?")


def test_the_node_comes_first(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "n1")
    reporting = Reporting()
    assert reporting.ctx.spec.datasources[0].fields[0].name == "nodeName"
    reporting.start()
    kernel.programs = [(5, 5, "x", 0, 0, [])]
    assert reporting.report()[0]["nodeName"] == "n1"


@pytest.mark.parametrize("before", ["0", "1"])
def test_a_kernel_with_one_switch(
    kernel: Kernel, before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "switch"
    switch.write_text(before + "\n")
    monkeypatch.setattr(bpf_stats, "SWITCH", switch)
    kernel.failure = CoreError("unsupported", "no counting", "")
    reporting = Reporting()
    reporting.start()
    assert switch.read_text().strip() == "1"
    reporting.operator.stop()
    assert switch.read_text().strip() == before


def test_a_switch_that_cannot_be_set_back(
    kernel: Kernel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    switch = tmp_path / "switch"
    switch.write_text("0")
    monkeypatch.setattr(bpf_stats, "SWITCH", switch)
    kernel.failure = CoreError("unsupported", "no counting", "")
    reporting = Reporting()
    reporting.start()
    switch.unlink()
    switch.mkdir()
    reporting.operator.stop()
    assert "back to 0: Is a directory" in caplog.text


def test_no_host_to_be_seen(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_ROOT", str(tmp_path / "none"))
    reporting = Reporting()
    with pytest.raises(ContainerError, match="of the host"):
        reporting.start()
    assert kernel.open == 0


def test_where_nothing_can_be_counted(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bpf_stats, "SWITCH", tmp_path / "none")
    kernel.failure = CoreError("unsupported", "no counting", "")
    with pytest.raises(KernelError, match=r"no counting, and .*none cannot be set"):
        Reporting().start()
    kernel.failure = CoreError("load", "not permitted", "")
    reporting = Reporting()
    with pytest.raises(KernelError, match="not permitted"):
        reporting.start()
    reporting.operator.stop()


@pytest.mark.parametrize("text", ["5x", "0", "-1s", "24ms"])
def test_wrong_intervals(kernel: Kernel, text: str) -> None:
    with pytest.raises(UsageError, match="--statistics-interval"):
        Reporting(statistics_interval=text)


def test_parameters() -> None:
    ctx = Context(GadgetSpec("g", {"operator": {"ebpf": {"emitstats": True}}}))
    BpfStats().instantiate(ctx)
    assert [(p.full_name, p.default) for p in ctx.spec.params] == [
        ("operator.ebpf.statistics-interval", "1000ms"),
        ("operator.ebpf.gadgets-only", "false"),
    ]
    [ds] = ctx.spec.datasources
    assert ds.annotations == {"fetch-interval": "1000ms", "cli.clear-screen-before": "true"}
    assert not BpfStats().instantiate(Context(GadgetSpec("g", {})))


class Processes:
    """Below *root*: descriptors as links, with what they are."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def holds(self, pid: int, comm: str, *descriptors: tuple[str, str]) -> None:
        here = self.root / f"proc/{pid}"
        for name in ("fd", "fdinfo"):
            (here / name).mkdir(parents=True, exist_ok=True)
        (here / "comm").write_text(f"{comm}\n")
        for number, (target, info) in enumerate(descriptors):
            (here / f"fd/{number}").symlink_to(target)
            (here / f"fdinfo/{number}").write_text(info)


def test_processes_that_hold_a_program(tmp_path: Path) -> None:
    processes, now = Processes(tmp_path), [0.0]
    program = ("anon_inode:bpf-prog", "pos:\t0\nprog_type:\t5\nprog_id:\t5\n")
    link = ("anon_inode:bpf_link", "link_type:\t2\nprog_id:\t6\n")
    processes.holds(30, "late", program, program, link)
    processes.holds(4, "early,odd", program, ("/dev/null", "prog_id:\t7\n"))
    processes.holds(5, "odd", ("anon_inode:bpf-prog", "prog_id:\tx\n"))
    (tmp_path / "proc/6").mkdir()
    holders = Holders(HostView(str(tmp_path)), lambda: now[0])
    found = {5: ("early,odd,late", "4,30"), 6: ("late", "30")}
    assert holders.of({5, 6}) == found
    processes.holds(9, "new", program)
    assert holders.of({5, 6}) == found
    assert holders.of({5, 6, 7})[5] == ("early,odd,new,late", "4,9,30")
    (tmp_path / "proc/4/fd/0").unlink()
    now[0] += RESCAN_SECONDS
    assert holders.of({5, 6, 7})[5] == ("new,late", "9,30")
    assert holders.of(set()) == {}
