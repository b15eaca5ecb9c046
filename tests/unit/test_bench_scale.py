"""The benchmarks of scale, churn and start: what they count and how they reckon."""

from __future__ import annotations

import importlib
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
Load = Callable[[str], ModuleType]


@pytest.fixture
def bench() -> Iterator[Load]:
    """Imports a module of bench/, whose modules import each other by their short names."""
    path, modules = [*sys.path], {*sys.modules}
    sys.path.insert(0, str(BENCH))
    yield importlib.import_module
    sys.path[:] = path
    for name in {*sys.modules} - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(f"{BENCH}{os.sep}"):
            del sys.modules[name]


def test_a_line_has_its_slope_and_no_error(bench: Load) -> None:
    found = bench("slope").slope([0, 10, 20, 40], [1000, 1030, 1060, 1120])
    assert found.bytes_each == pytest.approx(3)
    assert found.error == pytest.approx(0, abs=1e-9)


def test_what_is_off_the_line_is_its_error(bench: Load) -> None:
    found = bench("slope").slope([0, 1, 2], [0, 1, 0])
    assert found.bytes_each == pytest.approx(0)
    # The squares left add up to 2/3, with one degree of freedom, over a spread of 2.
    assert found.error == pytest.approx(math.sqrt(1 / 3))


def test_growth_by_day(bench: Load) -> None:
    assert bench("slope").Slope(1024, 0).mib_a_day(2) == pytest.approx(2 * 84.375)


@pytest.mark.parametrize(
    ("containers", "said"), [([1, 2], "2 samples"), ([5, 5, 5], "no container started")]
)
def test_too_little_makes_no_slope(bench: Load, containers: list[int], said: str) -> None:
    slope = bench("slope")
    with pytest.raises(slope.NoSlope, match=said):
        slope.slope(containers, [1.0] * len(containers))


def test_the_warm_up_is_left_out(bench: Load) -> None:
    churn = bench("churn")

    def sample(second: int) -> object:
        # Much in the first ten seconds, then a KiB for each of two containers a second.
        kib = 100_000 if second < 10 else 200_000 + 2 * second
        return churn.Sample(second, 2 * second, 9, 3, kib, 50_000)

    resident, anonymous = churn.growth([sample(second) for second in range(30)], 10)
    assert resident.startswith("VmRSS: 1024.0 ± 0.0 bytes a container, 168.8 MiB in 24 h at 2.0/s")
    assert "(20 samples, 38 containers)" in resident
    assert anonymous.startswith("RssAnon: 0.0 ± 0.0 bytes a container, 0.0 MiB")
    assert churn.growth([sample(1)], 10) == [
        "no slope: 0 samples after the warm-up: at least 3 make a slope"
    ]


def test_containers_start_at_the_rate(bench: Load) -> None:
    load = bench("churn").Load(lambda name: None, 4, 100)
    begun = time.monotonic()
    with load.running():
        time.sleep(0.3)
    most = (time.monotonic() - begun) * 100 + 1
    assert 1 < len(load.names) <= most
    assert len({*load.names}) == len(load.names)
    assert not load.failures


def test_containers_start_as_fast_as_they_can(bench: Load) -> None:
    def start(name: str) -> None:
        time.sleep(0.001)
        if name.endswith("7"):
            raise OSError("no room")

    load = bench("churn").Load(start, 2)
    with load.running():
        time.sleep(0.3)
    assert len(load.names) > 10
    assert load.failures and all(line.endswith("7: no room") for line in load.failures)


def test_names_of_fields(bench: Load) -> None:
    event = {"fd": 3, "proc": {"comm": "a", "creds": {"uid": 0}}, "tags": []}
    assert bench("scale").full_names(event) == ["fd", "proc.comm", "proc.creds.uid", "tags"]


def test_what_several_tracers_used_is_added(bench: Load) -> None:
    usage = bench("usage")
    before = usage.Usage({1: 1.0}, {1: 10}, 100) + usage.Usage({2: 2.0}, {2: 20}, 200)
    after = usage.Usage({1: 1.5}, {1: 13}, 100) + usage.Usage({2: 2.25, 3: 1.0}, {2: 21, 3: 5}, 250)
    assert after.cpu_since(before) == pytest.approx(1.75)
    assert after.switches_since(before) == 9
    assert after.rss_kib == 350


def test_memory_of_this_process(bench: Load) -> None:
    before = bench("usage").memory(os.getpid())
    assert 0 < before.anonymous < before.rss
    assert before.proportional > 0
    kept = b"x" * (64 << 20)
    after = bench("usage").memory(os.getpid())
    assert after.anonymous - before.anonymous > len(kept) // 1024 // 2


def test_medians_and_ratios_by_number(bench: Load) -> None:
    scale, table = bench("scale"), bench("table")

    def row(tool: str, number: int, seconds: float) -> object:
        memory = (1000, 500, 700)
        return scale.ScaleRow(
            tool, "gadgets", number, seconds, 1.0, 2.0, None, 5, 5, None, None, *memory
        )

    rows = [row("ig-py", 1, 1.0), row("ig-py", 1, 3.0), row("ig", 1, 4.0), row("ig-py", 20, 7.0)]
    head, ours, other, ratio, more = table.lines(rows, ("of", "number"), scale.COLUMNS)
    assert head.split()[:3] == ["of", "number", "tool"]
    assert ours.split()[:4] == ["gadgets", "1", "ig-py", "2.00"]
    assert other.split()[:4] == ["gadgets", "1", "ig", "4.00"]
    assert ratio.split()[:3] == ["/", "ig", "0.50"]
    assert more.split()[:4] == ["gadgets", "20", "ig-py", "7.00"]


def tool(bench: Load, directory: Path, script: str) -> object:
    """One that is *script*, called as a tracer is."""
    program = directory / "tool"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return bench("tracers").Tool("ig-py", (str(program),), "image")


def test_the_time_until_a_tool_runs(bench: Load, tmp_path: Path) -> None:
    said = "echo loaded >&2; sleep 0.2; printf runn >&2; sleep 0.2; echo ing... >&2; sleep 60"
    tracer = bench("tracers").Tracer(tool(bench, tmp_path, said), "json", tmp_path)
    try:
        assert 0.4 <= tracer.wait_running() < 30
    finally:
        tracer.end()


def test_a_tool_that_never_runs(bench: Load, tmp_path: Path) -> None:
    tracer = bench("tracers").Tracer(tool(bench, tmp_path, "echo no BPF >&2"), "json", tmp_path)
    with pytest.raises(bench("loads").BenchError, match="did not say that it runs: no BPF"):
        tracer.wait_running()


def test_starts_have_a_median(bench: Load) -> None:
    start = bench("start")
    times = [start.Start(0.3, 0.02), start.Start(0.1, 0.01), start.Start(0.2, 0.06)]
    row = start.row("ig", times)
    assert (row.runs, row.median_ms, row.least_ms, row.most_ms) == pytest.approx((3, 200, 100, 300))
    assert (row.cpu_ms, row.least_cpu_ms) == pytest.approx((20, 10))


def test_processor_time_of_ended_threads_counts(bench: Load) -> None:
    usage = bench("usage")
    before = usage.cpu_seconds(os.getpid())
    thread = threading.Thread(target=lambda: sum(range(2_000_000)))
    thread.start()
    thread.join()
    assert usage.cpu_seconds(os.getpid()) - before > 0.005


@pytest.mark.needs("root", "cc")
def test_idle_containers(bench: Load, tmp_path: Path) -> None:
    idle = bench("idle")
    binary = idle.build(tmp_path)
    with idle.processes(binary, 20) as pids:
        spaces = {Path(f"/proc/{pid}/ns/mnt").stat().st_ino for pid in pids}
        assert len(spaces | {Path("/proc/self/ns/mnt").stat().st_ino}) == 21
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with idle.processes(binary, 0) as none:
        assert none == ()


def ask(path: Path, target: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(f"GET {target} HTTP/1.0\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.needs("root", "cc")
def test_the_engine_of_idle_containers(
    bench: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = bench("idle")
    monkeypatch.setattr(idle, "_LISTED_SECONDS", 0.2)
    monkeypatch.setattr(idle, "_CALM_SECONDS", 0.05)
    with idle.containers(idle.build(tmp_path), 2, tmp_path) as found:
        assert found.flags == ("--runtimes=docker", f"--docker-socketpath={tmp_path}/docker.sock")
        assert idle.name(1).encode() in ask(found.engine.path, "/v1.41/containers/json")
        for number, identity in enumerate(found.engine.containers):
            with pytest.raises(bench("loads").BenchError, match="each container is asked for"):
                found.wait_listed()
            said = ask(found.engine.path, f"/v1.41/containers/{identity}/json")
            assert b'"Pid": %d' % found.pids[number] in said
        found.wait_listed()
