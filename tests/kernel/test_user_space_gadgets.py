"""Gadgets of metadata alone, of which tests need more than a test.yaml can say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.gadget_build import gadget_object
from support.gadget_format import GADGETS, GadgetTest
from support.gadget_runner import GadgetUnderTest, load
from support.waiting import deadline

from ig_py._core import Object
from ig_py.containers.proc import HostView
from ig_py.operators._throttling import Hierarchy, hierarchy

pytestmark = [pytest.mark.needs("root", "bpf"), pytest.mark.timeout(120)]

SECONDS = 30
PERIOD, QUOTA = 20_000, 2_000


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
    end = time.monotonic() + deadline(SECONDS)
    while True:
        events = gadget.events()[datasource]
        for event in events:
            if wanted(event):
                return dict(event)
        assert gadget.failure is None, gadget.failure
        assert time.monotonic() < end, f"{len(events)} events, the last ones: {events[-5:]}"
        time.sleep(0.05)


@pytest.fixture
def group() -> Iterator[tuple[Hierarchy, Path]]:
    """A control group with a small quota."""
    where = hierarchy(HostView())
    if where is None:
        pytest.skip("no hierarchy limits processor time here")
    directory = Path(where.root, f"ig-py-test-{os.getpid()}")
    control = Path(where.root, "cgroup.subtree_control")
    delegated = where.unified and "cpu" not in control.read_text().split()
    try:
        if delegated:
            control.write_text("+cpu")
        directory.mkdir()
        if where.unified:
            (directory / "cpu.max").write_text(f"{QUOTA} {PERIOD}")
        else:
            (directory / "cpu.cfs_period_us").write_text(str(PERIOD))
            (directory / "cpu.cfs_quota_us").write_text(str(QUOTA))
    except OSError as error:
        pytest.skip(f"no control group can be limited here: {error}")
    yield where, directory
    directory.rmdir()
    if delegated:
        control.write_text("-cpu")


@contextmanager
def busy(directory: Path) -> Iterator[int]:
    code = f"open({str(directory / 'cgroup.procs')!r}, 'w').write('0')\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-S", "-c", code])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()
        end = time.monotonic() + deadline(SECONDS)
        while (directory / "cgroup.procs").read_text() and time.monotonic() < end:
            time.sleep(0.01)


def test_a_group_that_is_held_back(group: tuple[Hierarchy, Path], tmp_path: Path) -> None:
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
def test_only_what_selected_containers_run(tmp_path: Path) -> None:
    with running("process_table", tmp_path, containername="there-is-none") as selected:
        with running("process_table", tmp_path) as everything:
            first(everything, "processes", lambda e: e["pid"] == os.getpid())
        # Both have the same pace, and this one began earlier.
        assert selected.events()["processes"] == []


@pytest.mark.needs("raw_tracepoint", "clang")
def test_programs_of_others(tmp_path: Path) -> None:
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
        with running(
            "program_costs", tmp_path, statistics_interval="100ms", gadgets_only="true"
        ) as gadget:
            time.sleep(0.3)
        assert gadget.events()["bpfstats"] == []
    finally:
        held.close()


@pytest.mark.any_kernel
def test_an_image_with_a_wasm_module_runs_without_it(tmp_path: Path) -> None:
    source = tmp_path / "gadget"
    source.mkdir()
    config = GADGETS / "process_table/gadget.yaml"
    (source / "gadget.yaml").write_bytes(config.read_bytes())
    (source / "build.yaml").write_text("wasm: module.wasm\n")
    (source / "module.wasm").write_bytes(b"\0asm\x01\0\0\0")
    argv = [
        str(Path(sys.executable).with_name("ig-py")),
        "run",
        str(source),
        "--host",
        "--verify-image=false",
    ]
    argv += ["-o", "json", "--filter", f"pid=={os.getpid()}"]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        _, said = process.communicate(timeout=deadline(SECONDS))
    finally:
        process.kill()
        process.wait()
    assert [event["pid"] for event in json.loads(line)] == [os.getpid()]
    assert process.returncode == 0
    assert said.count("wasm") == 1
