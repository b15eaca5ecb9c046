"""Gadgets of metadata alone, of which tests need more than a test.yaml can say."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import features
from support.gadget_build import gadget_object
from support.gadget_format import GADGETS, GadgetTest
from support.gadget_runner import GadgetUnderTest, load
from support.running_gadget import RunningGadget, ig_py
from support.waiting import wait_for

from ig_py._core import Object
from ig_py.host.proc import HostView
from ig_py.operators._throttling import Hierarchy, hierarchy
from ig_py.operators.base import Context
from ig_py.operators.bpf_stats import BpfStats
from ig_py.operators.running import Running

pytestmark = [pytest.mark.needs("root", "bpf"), pytest.mark.timeout(120)]

SECONDS = 30
PERIOD, QUOTA = 20_000, 2_000
NOT_OURS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EBUSY)
"""Why a control group cannot be made or limited here: its hierarchy is not writable."""


@contextmanager
def running(name: str, directory: Path, **params: str) -> Iterator[GadgetUnderTest]:
    gadget = load(GadgetTest(name, name), directory, {})
    with GadgetUnderTest(gadget, {k.replace("_", "-"): v for k, v in params.items()}) as found:
        yield found
    if found.failure is not None:
        raise found.failure


def first(
    gadget: GadgetUnderTest, datasource: str, wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        assert gadget.failure is None, gadget.failure
        return next((e for e in gadget.events()[datasource] if wanted(e)), None)

    return dict(wait_for(found, f"the event of {datasource}", SECONDS))


@contextmanager
def written(file: Path, text: str, before: str) -> Iterator[None]:
    file.write_text(text)
    try:
        yield
    finally:
        file.write_text(before)


@pytest.fixture
def group() -> Iterator[tuple[Hierarchy, Path]]:
    """A control group with a small quota."""
    where = hierarchy(HostView())
    assert where is not None
    directory = Path(where.root, f"ig-py-test-{os.getpid()}")
    control = Path(where.root, "cgroup.subtree_control")
    with ExitStack() as stack:
        try:
            if where.unified and "cpu" not in control.read_text().split():
                stack.enter_context(written(control, "+cpu", "-cpu"))
            directory.mkdir()
            stack.callback(directory.rmdir)
            if where.unified:
                (directory / "cpu.max").write_text(f"{QUOTA} {PERIOD}")
            else:
                (directory / "cpu.cfs_period_us").write_text(str(PERIOD))
                (directory / "cpu.cfs_quota_us").write_text(str(QUOTA))
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise
            features.lack("cpu_limits", f"no group of our own: {error}")
        yield where, directory


@contextmanager
def busy(directory: Path) -> Iterator[int]:
    code = f"open({str(directory / 'cgroup.procs')!r}, 'w').write('0')\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-P", "-S", "-c", code])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()
        wait_for(lambda: not (directory / "cgroup.procs").read_text(), "the group is empty", 30)


@pytest.mark.needs("cpu_limits")
def test_a_throttled_group(group: tuple[Hierarchy, Path], tmp_path: Path) -> None:
    where, directory = group
    with busy(directory) as pid, running("cpu_limits", tmp_path, host="true") as gadget:
        path = f"/{directory.name}"
        event = first(gadget, "cgroups", lambda e: e["cgroupPath"] == path and e["nrThrottled"])
        mntns = Path(f"/proc/{pid}/ns/mnt").stat().st_ino
    assert event["mountnsid"] == mntns
    assert 0 < event["nrThrottled"] <= event["nrPeriods"]
    assert event["throttleRatio"] == 100 * event["nrThrottled"] / event["nrPeriods"]
    assert event["throttledTime_raw"] > 0
    assert (event["cpuQuota"], event["cpuPeriod"]) == ("2.00ms", "20.00ms")
    assert (event["cpuQuota_raw"], event["cpuPeriod_raw"]) == (QUOTA * 1000, PERIOD * 1000)
    assert event["cpuLimitCores"] == QUOTA / PERIOD
    if not where.unified:
        assert (event["psiSomeAvg10"], event["psiSomeAvg60"]) == (0, 0)


@pytest.mark.any_kernel
def test_only_programs_of_selected_containers(tmp_path: Path) -> None:
    with running("process_table", tmp_path, containername="there-is-none") as selected:
        with running("process_table", tmp_path) as everything:
            first(everything, "processes", lambda e: e["pid"] == os.getpid())
        # Both have the same interval; this one started earlier.
        assert selected.events()["processes"] == []


@pytest.mark.needs("raw_tracepoint", "clang")
def test_programs_of_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Object(gadget_object("own_costs", tmp_path), "held")
    try:
        held.load()
        held.attach("on_enter")
        [number] = held.program_ids()
        with running("program_costs", tmp_path, statistics_interval="100ms") as gadget:
            event = first(gadget, "bpfstats", lambda e: e["progID"] == number and e["runcount"])
        assert event["progName"] == "on_enter"
        assert (event["gadgetID"], event["gadgetName"], event["gadgetImage"]) == ("", "", "")
        assert str(os.getpid()) in event["pids"].split(",")
        assert event["mapCount"] == 1
        assert 0 < event["runtime_raw"] < 60_000_000_000
        reports = 0
        really = BpfStats._report

        def counted(self: BpfStats, ctx: Context, live: Running) -> None:
            nonlocal reports
            really(self, ctx, live)
            reports += 1

        monkeypatch.setattr(BpfStats, "_report", counted)
        with running(
            "program_costs", tmp_path, statistics_interval="100ms", gadgets_only="true"
        ) as gadget:
            wait_for(lambda: reports >= 2, "two reports", SECONDS)
        assert gadget.events()["bpfstats"] == []
    finally:
        held.close()


@pytest.mark.any_kernel
def test_a_manifest_instead_of_flags(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(
        f"""apiVersion: 1
kind: instance-spec
image: {GADGETS / "process_table"}
paramValues:
  operator.cli.output: json
  operator.filter.filter: pid=={os.getpid()}
  operator.LocalManager.host: true
  operator.nobody.x: 1
"""
    )
    with RunningGadget(tmp_path / "run", "-f", str(manifest), "--verify-image=false") as gadget:
        wait_for(lambda: "\n" in gadget.out, "an array", SECONDS)
        assert gadget.end() == 0
    assert [event["pid"] for event in json.loads(gadget.out.splitlines()[0])] == [os.getpid()]
    assert "'operator.nobody.x' is ignored" in gadget.err


@pytest.mark.any_kernel
def test_environment_variables_that_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IG_PY_TEST_PLACE", "here")
    arguments = [str(GADGETS / "process_table"), "--host", "--verify-image=false", "-o", "json"]
    arguments += ["--annotate", "processes:env.fields.place=IG_PY_TEST_PLACE"]
    arguments += ["--filter", f"pid=={os.getpid()},place==here"]
    with RunningGadget(tmp_path / "run", *arguments, "--env-vars=IG_PY_TEST_PLACE") as gadget:
        wait_for(lambda: "here" in gadget.out, "an array", SECONDS)
        assert gadget.end() == 0
    assert [event["place"] for event in json.loads(gadget.out.splitlines()[0])] == ["here"]
    refused = ig_py("run", *arguments)
    assert refused.returncode == 1
    assert "--env-vars=IG_PY_TEST_PLACE" in refused.stderr


@pytest.mark.any_kernel
def test_an_expression_filters_array_elements(tmp_path: Path) -> None:
    own = f"pid == {os.getpid()}"
    arguments = [str(GADGETS / "process_table"), "--host", "--verify-image=false", "-o", "json"]
    with RunningGadget(tmp_path / "run", *arguments, "-E", own, "--filter=pid>1") as gadget:
        wait_for(lambda: "\n" in gadget.out, "an array", SECONDS)
        assert gadget.end() == 0
    assert [event["pid"] for event in json.loads(gadget.out.splitlines()[0])] == [os.getpid()]
    undecided = f"{own} and pid % 0 == 1"
    with RunningGadget(tmp_path / "other", *arguments, "-E", undecided) as gadget:
        wait_for(lambda: "\n" in gadget.out, "an array", SECONDS)
        assert gadget.end() == 0
    assert json.loads(gadget.out.splitlines()[0]) == []
    assert "events are missing: --filter-expr has no value for them" in gadget.err
