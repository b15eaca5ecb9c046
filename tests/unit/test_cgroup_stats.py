"""Groups that are held back, on trees of control groups that are made up."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from support.live_run import FixedContainers, running

from ig_py.gadget.spec import GadgetSpec
from ig_py.host.proc import HostView
from ig_py.operators import _throttling
from ig_py.operators._throttling import Hierarchy, ThrottleReader, hierarchy
from ig_py.operators.base import Context
from ig_py.operators.cgroup_stats import CgroupStats

PSI = "some avg10=79.43 avg60=29.55 avg300=0.00 total=5\nfull avg10=1.00 avg60=1.00\n"


class Tree:
    """A host with one hierarchy: ``unified``, ``hybrid`` (v2 without cpu, v1 with) or ``v1``."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root = root
        base = root / "sys/fs/cgroup"
        self.v1 = kind != "unified"
        self.top = base / ("cpu,cpuacct" if self.v1 else "")
        self.top.mkdir(parents=True)
        (self.top / "cgroup.procs").touch()
        if not self.v1:
            (base / "cgroup.controllers").write_text("cpuset cpu io memory\n")
        if kind == "hybrid":
            (base / "unified").mkdir()
            (base / "unified/cgroup.controllers").write_text("\n")

    def group(
        self,
        path: str,
        periods: int,
        throttled: int = 0,
        micros: int = 0,
        *,
        quota: str = "20000",
        pids: tuple[int, ...] = (),
        psi: str = PSI,
    ) -> None:
        here = self.top / path
        here.mkdir(parents=True, exist_ok=True)
        counts = f"nr_periods {periods}\nnr_throttled {throttled}\n"
        if self.v1:
            quota = "-1" if quota == "max" else quota
            (here / "cpu.cfs_quota_us").write_text(f"{quota}\n")
            (here / "cpu.cfs_period_us").write_text("100000\n")
            (here / "cpu.stat").write_text(f"{counts}throttled_time {micros * 1000}\n")
        else:
            (here / "cpu.max").write_text(f"{quota} 100000\n")
            times = f"usage_usec 1\n{counts}throttled_usec {micros}\nnr_bursts 0\n"
            (here / "cpu.stat").write_text(times)
            if psi:
                (here / "cpu.pressure").write_text(psi)
        (here / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def process(self, pid: int, namespace: str) -> int:
        """Its mount namespace."""
        here = self.root / f"proc/{pid}/ns"
        here.mkdir(parents=True)
        shared = self.root / namespace
        shared.touch()
        (here / "mnt").hardlink_to(shared)
        return shared.stat().st_ino

    @property
    def view(self) -> HostView:
        return HostView(str(self.root))

    def reader(self) -> ThrottleReader:
        where = hierarchy(self.view)
        assert where is not None
        return ThrottleReader(self.view, where)


@pytest.fixture(params=["unified", "hybrid", "v1"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path, request.param)


@pytest.fixture
def unified(tmp_path: Path) -> Tree:
    return Tree(tmp_path, "unified")


def rows(reader: ThrottleReader) -> dict[str, dict[str, Any]]:
    found = list(reader.read())
    return {bytes(row["cgroupPath"]).decode(): row for row in found}  # type: ignore[arg-type]


def test_the_hierarchy(tree: Tree) -> None:
    assert hierarchy(tree.view) == Hierarchy(str(tree.top), unified=not tree.v1)


def test_no_hierarchy(tmp_path: Path) -> None:
    assert hierarchy(HostView(str(tmp_path))) is None
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("memory pids\n")
    assert hierarchy(HostView(str(tmp_path))) is None


def test_counts_since_the_report_before(tree: Tree) -> None:
    mntns = tree.process(9, "a")
    tree.group("system.slice/web", 100, 10, 5000, pids=(8, 9))
    reader = tree.reader()
    assert rows(reader) == {}
    tree.group("system.slice/web", 150, 60, 7_245_510, pids=(8, 9))
    assert rows(reader) == {
        "/system.slice/web": {
            "cgroupPath": b"/system.slice/web",
            "nrPeriods": 50,
            "nrThrottled": 50,
            "throttledTime_raw": 7_240_510_000,
            "throttleRatio": 100.0,
            "cpuQuota_raw": 20_000_000,
            "cpuPeriod_raw": 100_000_000,
            "cpuLimitCores": 0.2,
            "psiSomeAvg10": 0.0 if tree.v1 else 79.43,
            "psiSomeAvg60": 0.0 if tree.v1 else 29.55,
            "mountnsid": mntns,
        }
    }


def test_groups_that_are_left_out(tree: Tree) -> None:
    tree.group("idle", 10)
    tree.group("free", 10, quota="max")
    tree.group("odd", 10, quota="much")
    tree.group("calm", 10)
    tree.group("again", 10)
    reader = tree.reader()
    rows(reader)
    for name in ("calm", "new"):
        tree.group(name, 20)
    tree.group("free", 20, quota="max")
    tree.group("odd", 20, quota="much")
    # A new group with the same path: its counters start at 0.
    tree.group("again", 5)
    assert set(rows(reader)) == {"/calm"}
    tree.group("new", 21)
    tree.group("again", 6)
    assert set(rows(reader)) == {"/new", "/again"}


def test_another_group_of_the_same_path(unified: Tree) -> None:
    unified.group("x", 10)
    reader = unified.reader()
    rows(reader)
    (unified.top / "x").rename(unified.top / "old")
    unified.group("x", 500)
    assert "/x" not in rows(reader)


def test_a_kernel_without_pressure(unified: Tree) -> None:
    reader = unified.reader()
    for periods in (1, 2):
        unified.group("x", periods, psi="")
        found = rows(reader)
    assert (found["/x"]["psiSomeAvg10"], found["/x"]["psiSomeAvg60"]) == (0, 0)
    unified.group("x", 3, psi="some avg10=? avg60\n")
    assert rows(reader)["/x"]["psiSomeAvg10"] == 0


def test_the_container_of_a_group(unified: Tree) -> None:
    one, other = unified.process(11, "one"), unified.process(12, "other")
    assert unified.process(13, "one") == one != other
    reader = unified.reader()
    for periods in (1, 2):
        unified.group("pod", periods)
        unified.group("pod/a", periods, pids=(11,), quota="max")
        unified.group("pod/b", periods, pids=(12,), quota="max")
        unified.group("box", periods)
        unified.group("box/init.scope", periods, pids=(13,), quota="max")
        unified.group("box/system.slice/x", periods, pids=(11,), quota="max")
        unified.group("gone", periods, pids=(99, 0))
        found = rows(reader)
    assert {path: row["mountnsid"] for path, row in found.items()} == {
        "/pod": 0,
        "/box": one,
        "/gone": 0,
    }


def test_limits_above_limits(unified: Tree) -> None:
    unified.process(11, "one")
    reader = unified.reader()
    for periods in (1, 2):
        unified.group("pod", periods)
        unified.group("pod/between/a", periods, pids=(11,))
        unified.group("pod/between", periods, quota="max")
        # The group has threads and a child group: both are reported.
        unified.group("own", periods, pids=(11,))
        unified.group("own/below", periods)
        found = rows(reader)
    assert set(found) == {"/pod/between/a", "/own", "/own/below"}


def test_a_tree_has_limits(unified: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_throttling, "MAX_GROUPS", 4)
    monkeypatch.setattr(_throttling, "MAX_DEPTH", 2)
    reader = unified.reader()
    for periods in (1, 2):
        for path in ("a", "a/b", "a/b/c", "d", "e", "f"):
            unified.group(path, periods, pids=(1,))
        found = rows(reader)
    assert len(found) == 4
    monkeypatch.setattr(_throttling, "MAX_GROUPS", 100)
    rows(reader)
    for path in ("a", "a/b", "a/b/c", "d", "e", "f"):
        unified.group(path, 3, pids=(1,))
    assert set(rows(reader)) == {"/a", "/a/b", "/d", "/e", "/f"}


def context(**cgroup: Any) -> Context:
    return Context(GadgetSpec("g", {"operator": {"cgroup": {"emitstats": True, **cgroup}}}))


def test_a_report(unified: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_ROOT", str(unified.root))
    ctx = context()
    operator = CgroupStats()
    assert operator.instantiate(ctx)
    emitted: list[list[bytes]] = []
    live = running(emit=lambda _name, samples: emitted.append(list(samples)))
    unified.group("x", 1)
    operator.start(ctx, live)
    assert (live.timers[0].interval, live.timers[0].times) == (5_000_000_000, 0)
    unified.group("x", 2)
    live.timers[0].work()
    live.host.provide_containers(FixedContainers())
    unified.group("x", 3)
    live.timers[0].work()
    assert [len(samples) for samples in emitted] == [1, 0]
    assert len(emitted[0][0]) == ctx.spec.datasources[0].sample_size


def test_a_host_without_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOST_ROOT", str(tmp_path))
    ctx = context()
    operator = CgroupStats()
    operator.instantiate(ctx)
    emitted: list[list[bytes]] = []
    live = running(emit=lambda _name, samples: emitted.append(list(samples)))
    with caplog.at_level(logging.WARNING):
        operator.start(ctx, live)
    live.timers[0].work()
    assert "no cgroup hierarchy that limits processor time" in caplog.text
    assert emitted == [[]]


def test_not_asked_for() -> None:
    assert not CgroupStats().instantiate(Context(GadgetSpec("g", {})))
