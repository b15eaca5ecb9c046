"""Processes read from a /proc made for the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.live_run import FixedContainers, running

from ig_py.errors import MetadataError
from ig_py.gadget.duration import format_duration
from ig_py.gadget.spec import GadgetSpec
from ig_py.host.proc import HostView
from ig_py.operators import _processes, _samples
from ig_py.operators._processes import Machine, ProcessReader, clock_text, rfc3339
from ig_py.operators.base import Context
from ig_py.operators.process_stats import _BY_CHOICE, ProcessStats

MACHINE = Machine(boot=1_700_000_000, ticks=100, cpus=4, memory=1 << 30, page=4096)
ALL = frozenset(_BY_CHOICE)


class Host:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "proc").mkdir()

    def process(
        self,
        pid: int,
        name: str = "sleep",
        *,
        ticks: tuple[int, int] = (0, 0),
        start: int = 50,
        rest: str = "",
        uid: str = "1000\t0\t0\t0",
    ) -> None:
        here = self.root / f"proc/{pid}"
        (here / "ns").mkdir(parents=True, exist_ok=True)
        middle = "1 1 1 0 -1 4194560 90 0 0 0"
        stat = f"{pid} ({name}) S 7 {middle[2:]} {ticks[0]} {ticks[1]} 0 0 -51 -20 3 0 {start} 1 2"
        (here / "stat").write_text(rest or stat)
        (here / "statm").write_text("1000 256 64 1 0 1 0\n")
        (here / "status").write_text(f"Name:\t{name}\nUmask:\t0022\nUid:\t{uid}\nGid:\t0\n")
        (here / "ns/mnt").touch()

    def end(self, pid: int) -> None:
        (self.root / f"proc/{pid}/stat").unlink()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class Now:
    seconds = 100.0

    def __call__(self) -> int:
        return int(self.seconds * 1e9)


def reader(host: Host, now: Now | None = None, wanted: frozenset[str] = ALL) -> ProcessReader:
    return ProcessReader(HostView(str(host.root)), wanted, MACHINE, now or Now())


def test_fields_of_a_process(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_processes, "rfc3339", str)
    host.process(5, "a) b (c", ticks=(100, 23), start=1234)
    [row] = reader(host).read()
    assert row == {
        "pid": 5,
        "ppid": 7,
        "comm": b"a) b (c",
        "state": b"S",
        "priority": -51,
        "nice": -20,
        "threadCount": 3,
        "startTime": 1234,
        "startTimeStr": str(MACHINE.boot + 12).encode(),
        "cpuTime": 123,
        "cpuTimeStr": b"0:01.230",
        "cpuUsage": 0.0,
        "cpuUsageRelative": 0.0,
        "memoryVirtual_raw": 1000 * 4096,
        "memoryRSS_raw": 256 * 4096,
        "memoryShared_raw": 64 * 4096,
        "memoryRelative": 100 * 256 * 4096 / (1 << 30),
        "uid": 1000,
        "mountnsid": (host.root / "proc/5/ns/mnt").stat().st_ino,
    }


def test_usage_since_the_report_before(host: Host) -> None:
    now = Now()
    read = reader(host, now)
    host.process(1, ticks=(1000, 1000), start=10)
    host.process(2, ticks=(5, 5), start=20)
    assert [row["cpuUsage"] for row in read.read()] == [0, 0]
    now.seconds += 2
    host.process(1, ticks=(1040, 1010), start=10)
    # The process started since the last report: its whole time counts.
    host.process(3, ticks=(10, 10), start=9000)
    # The same pid for another process, which started before the known ones.
    host.process(2, ticks=(70, 0), start=15)
    usage = {row["pid"]: (row["cpuUsage"], row["cpuUsageRelative"]) for row in read.read()}
    assert usage == {1: (25, 6.25), 2: (0, 0), 3: (10, 2.5)}
    now.seconds += 1
    host.process(1, ticks=(0, 0), start=10)
    assert next(iter(read.read()))["cpuUsage"] == 0


def test_processes_that_end_meanwhile_are_left_out(host: Host) -> None:
    for pid in (30, 4, 100):
        host.process(pid)
    host.end(30)
    (host.root / "proc/self").mkdir()
    (host.root / "proc/4/statm").unlink()
    (host.root / "proc/4/status").unlink()
    first, second = reader(host).read()
    assert (first["pid"], second["pid"]) == (4, 100)
    assert (first["memoryRSS_raw"], first["uid"]) == (0, 0)


@pytest.mark.parametrize("text", ["", "5", "5 (x", "5 (x) S 1 2 3", ")", "5 (x)"])
def test_a_stat_that_says_too_little(host: Host, text: str) -> None:
    host.process(5, rest=text or " ")
    assert list(reader(host).read()) == []


def test_unwanted_fields_are_not_read(host: Host) -> None:
    host.process(5)
    [row] = reader(host, wanted=frozenset({"comm"})).read()
    assert not {"uid", "memoryRSS_raw", "startTimeStr", "cpuTimeStr"} & set(row)


def test_the_machine(host: Host) -> None:
    (host.root / "proc/stat").write_text("cpu 1 2 3\nbtime 1700000123\nprocesses 5\n")
    (host.root / "proc/meminfo").write_text("MemTotal:       24684084 kB\nMemFree: 1 kB\n")
    machine = Machine.of(HostView(str(host.root)))
    assert (machine.boot, machine.memory) == (1700000123, 24684084 * 1024)
    assert machine.cpus >= 1


def test_texts() -> None:
    assert clock_text(0, 100) == "0:00.000"
    assert clock_text(13225, 100) == "2:12.250"
    assert clock_text(100 * 3600 * 2 + 1, 100) == "120:00.010"
    assert rfc3339(1 << 62) == ""


def test_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        assert rfc3339(1795413572) == "2026-11-23T05:59:32Z"
        patch.setenv("TZ", "XYZ-2:30")
        time.tzset()
        assert rfc3339(1795413572) == "2026-11-23T08:29:32+02:30"
    time.tzset()


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (13_089, "13.089µs"),
        (1_500_000, "1.5ms"),
        (999_999_999, "999.999999ms"),
        (1_000_000_000, "1s"),
        (60_000_000_000, "1m0s"),
        (3_661_000_000_001, "1h1m1.000000001s"),
        (3_600_000_000_000, "1h0m0s"),
        (-1_500_000_000, "-1.5s"),
    ],
)
def test_durations(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


def context(**process: Any) -> Context:
    return Context(GadgetSpec("g", {"operator": {"process": {"emitstats": True, **process}}}))


def test_not_asked_for() -> None:
    for metadata in ({}, {"operator": {"process": {"emitstats": False}}}, {"operator": None}):
        ctx = Context(GadgetSpec("g", metadata))
        assert not ProcessStats().instantiate(ctx)
        assert not ctx.spec.datasources


def test_chosen_fields_come_in_their_order() -> None:
    ctx = context(fields=["uid", "bogus", "comm", "uid", "startTime", "pid"], interval="500ms")
    assert ProcessStats().instantiate(ctx)
    [ds] = ctx.spec.datasources
    names = [f.name for f in ds.fields]
    assert names == ["pid", "uid", "comm", "startTime", "startTimeStr", "mountnsid"]
    assert ds.annotations == {"fetch-interval": "500ms"}
    assert ds.sample_size == 4 + 4 + 64 + 8 + 32 + 8
    assert [note for note in ds.notes if "bogus" in note]


@pytest.mark.parametrize(
    ("said", "timer"),
    [
        ({}, (60_000_000_000, 60_000_000_000, 0)),
        ({"interval": "2s"}, (2_000_000_000, 2_000_000_000, 0)),
        ({"interval": "2s", "count": 2}, (2_000_000_000, 2_000_000_000, 2)),
        ({"interval": "2s", "first-interval": "250ms"}, (2_000_000_000, 250_000_000, 0)),
        ({"interval": "2s", "first-interval": "250ms", "count": "2"},
         (2_000_000_000, 250_000_000, 3)),
        ({"interval": "2s", "count": -1}, (2_000_000_000, 2_000_000_000, 0)),
    ],
)  # fmt: skip
def test_the_pace(said: dict[str, Any], timer: tuple[int, int, int]) -> None:
    ctx, live = context(**said), running()
    operator = ProcessStats()
    operator.instantiate(ctx)
    operator.start(ctx, live)
    [found] = live.timers
    assert (found.interval, found.first, found.times) == timer


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"interval": "soon"}, "interval: 'soon'"),
        ({"interval": "0s"}, "interval: '0s'"),
        ({"interval": "-1s"}, "interval: '-1s'"),
        ({"interval": "1ms"}, "interval: '1ms'"),
        ({"first-interval": "\x1b"}, r"first-interval: '\\x1b'"),
        ({"count": "many"}, "count: 'many'"),
        ({"count": 1 << 40}, "count: "),
        ({"emitstats": "maybe"}, "emitstats"),
        ({"fields": {"a": 1}}, "fields"),
        ({"interval": ["1s"]}, "interval"),
    ],
)
def test_errors_in_gadget_yaml(said: dict[str, Any], why: str) -> None:
    with pytest.raises(MetadataError, match=why):
        ProcessStats().instantiate(context(**said))


def test_a_data_source_of_that_name_is_there_already() -> None:
    ctx = context()
    _samples.declare_array(ctx, "processes", "1s")
    with pytest.raises(MetadataError, match="declared twice"):
        ProcessStats().instantiate(ctx)


def test_a_report_has_only_selected_processes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in (1, 2, 3):
        host.process(pid)
    monkeypatch.setenv("HOST_ROOT", str(host.root))
    ctx = context(fields=["comm"])
    operator = ProcessStats()
    operator.instantiate(ctx)
    emitted: list[tuple[str, list[bytes]]] = []
    live = running(emit=lambda name, samples: emitted.append((name, list(samples))))
    operator.start(ctx, live)
    live.timers[0].work()
    wanted = (host.root / "proc/2/ns/mnt").stat().st_ino
    live.host.provide_containers(FixedContainers(wanted))
    live.timers[0].work()
    sizes = [(name, len(samples)) for name, samples in emitted]
    assert sizes == [("processes", 3), ("processes", 1)]
    assert emitted[1][1][0].startswith((2).to_bytes(4, "little") + b"sleep\0")
