"""Arrays from the real kernel: maps emptied without losing a call, iterators in namespaces."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.gadget_build import gadget_object
from support.gadget_objects import spec_of
from support.running_gadget import RunningGadget
from support.waiting import wait_for

from ig_py._core import CoreError, Map, Object, Stream, pipeline
from ig_py.gadget.spec import GadgetSpec
from ig_py.operators.parts import PlanParts
from ig_py.runtime.plan import DataSourceOutput, PlanSettings, compile_plan

pytestmark = [pytest.mark.needs("root", "bpf", "btf", "clang"), pytest.mark.timeout(300)]

GADGETS = Path(__file__).parents[1] / "gadgets"
HASH, LRU_HASH = 1, 9
ENTRY = 16


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arrays")


class Opened:
    """A gadget's object, loaded, with JSON arrays coming out of its stream."""

    def __init__(self, elf: bytes, **changes: Any) -> None:
        self.spec: GadgetSpec = spec_of(elf)
        [ds] = self.spec.datasources
        self.name = ds.name
        outputs = {ds.name: DataSourceOutput("json")}
        document = json.loads(compile_plan(self.spec, PlanParts(), PlanSettings(outputs)))
        document["datasources"][0]["read_from"] |= changes
        self.object = Object(elf, "arrays")
        self.object.load()
        self.stream: Stream = self.object.stream(json.dumps(document))

    def read(self, *netns: int) -> list[dict[str, Any]]:
        batch, failure = self.stream.read_array(self.name, netns)
        assert failure == ""
        rows: list[dict[str, Any]] = json.loads(batch.data)
        assert len(rows) == batch.events
        return rows

    def close(self) -> None:
        self.object.close()


@pytest.fixture(params=[True, False], ids=["batches", "one by one"])
def calls(directory: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    opened = Opened(gadget_object("count_syscalls", directory), batch=request.param)
    opened.object.attach("on_enter")
    yield opened
    opened.close()


@pytest.mark.needs("raw_tracepoint")
def test_no_call_is_lost_or_counted_twice(calls: Opened) -> None:
    number = 39 if os.uname().machine == "x86_64" else 172
    pid = os.getpid()

    def mine() -> int:
        rows = calls.read()
        return sum(r["calls"] for r in rows if r["pid"] == pid and r["syscall_raw"] == number)

    mine()
    seen = made = 0
    for burst in (0, 1, 700, 3, 5000):
        for _ in range(burst):
            os.getpid()
        made += burst
        seen += mine()
        assert seen == made
    calls.object.detach()
    mine()
    assert calls.read() == []
    counters = calls.stream.counters()[calls.name]
    assert counters["received"] == counters["emitted"] > 0
    assert counters["lost"] == 0


def map_plan(name: str, **read_from: Any) -> str:
    fields = [
        {"id": 0, "name": "k", "full_name": "k", "kind": "u64", "offset": 0, "size": 8},
        {"id": 1, "name": "v", "full_name": "v", "kind": "u64", "offset": 8, "size": 8},
    ]
    ds = {
        "name": "x",
        "sample_size": ENTRY,
        "array": True,
        "fields": fields,
        "read_from": {"map": name} | read_from,
        "output": {"mode": "json"},
    }
    return json.dumps({"version": 1, "datasources": [ds]})


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("entries", [0, 1, 15, 16, 17, 5000, 16384])
def test_every_entry_comes_once(directory: Path, batch: bool, entries: int) -> None:
    obj = Object(gadget_object("count_syscalls", directory), "arrays")
    obj.set_map_type("counts", HASH, 8, 8)
    own = Map.create("counts", HASH, 8, 8, 16384)
    obj.reuse_map("counts", own)
    for program in obj.programs():
        obj.set_autoload(program["name"], False)
    obj.load()
    stream = obj.stream(map_plan("counts", batch=batch))
    for key in range(entries):
        own.update(key.to_bytes(8, "little"), (key * 3).to_bytes(8, "little"))
    batch_of, failure = stream.read_array("x")
    rows = {row["k"]: row["v"] for row in json.loads(batch_of.data)}
    assert failure == ""
    assert batch_of.events == len(rows) == entries
    assert rows == {key: key * 3 for key in range(entries)}
    assert own.keys() == []
    obj.close()
    own.close()


def test_maps_of_another_shape_are_refused(directory: Path) -> None:
    obj = Object(gadget_object("count_syscalls", directory), "arrays")
    obj.load()
    with pytest.raises(CoreError, match="expected 16"):
        obj.stream(map_plan("counts"))
    with pytest.raises(CoreError, match="no loaded map nosuch"):
        obj.stream(map_plan("nosuch"))
    obj.close()


def netns_of(pid: int) -> int:
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """A process in a network namespace of its own that listens on port 4321."""
    code = (
        "import os, socket, time; os.unshare(0x40000000); "
        "s = socket.create_server(('0.0.0.0', 4321)); print(flush=True); time.sleep(600)"
    )
    if not hasattr(os, "unshare"):
        code = code.replace("os.unshare(", "__import__('ctypes').CDLL(None).unshare(")
    process = subprocess.Popen(["python3", "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    yield process.pid
    process.kill()
    process.wait()


@pytest.mark.needs("iter")
def test_sockets_of_each_namespace(directory: Path, elsewhere: int) -> None:
    opened = Opened(gadget_object("snapshot_sockets", directory))
    here, there = netns_of(os.getpid()), netns_of(elsewhere)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]

            def listening(*netns: int) -> set[tuple[int, int]]:
                rows = opened.read(*netns)
                return {(r["netns_id"], r["src"]["port"]) for r in rows if r["state"] == 10}

            ours = (os.fstat(here).st_ino, port)
            theirs = (os.fstat(there).st_ino, 4321)
            assert opened.read() == []
            assert listening(there) == {theirs}
            assert ours in listening(here)
            assert {ours, theirs} <= listening(here, there)
            [name] = opened.stream.counters()
            with pytest.raises(CoreError, match="no data source"):
                opened.stream.read_array("other")
            with Path("/dev/null").open() as file:
                batch, failure = opened.stream.read_array(name, [file.fileno(), there])
            assert "another network namespace" in failure
            assert {r["src"]["port"] for r in json.loads(batch.data)} >= {4321}
        assert Path("/proc/thread-self/ns/net").stat().st_ino == ours[0]
    finally:
        os.close(here)
        os.close(there)
        opened.close()


@pytest.mark.needs("iter")
def test_a_fetch_after_the_end_is_refused(directory: Path) -> None:
    opened = Opened(gadget_object("snapshot_tasks", directory))
    assert any(row["pid"] == os.getpid() for row in opened.read())
    opened.close()
    with pytest.raises(CoreError, match="closed"):
        opened.stream.read_array(opened.name)


def test_nothing_is_fetched_without_an_object() -> None:
    with pytest.raises(CoreError, match="nothing to read"):
        pipeline(map_plan("counts")).read_array("x")


@pytest.mark.needs("iter")
def test_a_snapshot_is_taken_once(tmp_path: Path) -> None:
    arguments = [str(GADGETS / "snapshot_tasks"), "--verify-image=false", "--host"]
    arguments += ["-o", "json", "--sort", "-pid", "--max-entries", "2"]
    with RunningGadget(tmp_path, *arguments) as run:
        run.wait_running()
        wait_for(lambda: "\n" in run.out, "an array")
        time.sleep(0.3)
        assert run.end() == 0
        [rows] = run.events()
    assert [row["pid"] for row in rows] == sorted((r["pid"] for r in rows), reverse=True)
    assert run.account() == (2, 0)


@pytest.mark.needs("raw_tracepoint")
def test_a_map_is_read_at_intervals_and_at_the_end(tmp_path: Path) -> None:
    arguments = [str(GADGETS / "count_syscalls"), "--verify-image=false", "--host"]
    arguments += ["-o", "json", "--map-fetch-interval", "20ms", "--map-fetch-count", "2"]
    with RunningGadget(tmp_path, *arguments) as run:
        run.wait_running()
        wait_for(lambda: run.out.count("\n") == 2, "two arrays")
        time.sleep(0.2)
        assert run.out.count("\n") == 2
        assert run.end() == 0
    # The count is spent: not even the gadget's `flush-on-stop` has it fetched once more.
    assert len(run.out.splitlines()) == 2


@pytest.mark.needs("raw_tracepoint")
@pytest.mark.parametrize(("count", "arrays"), [("0", 1), ("1", 1), ("2", 1)])
def test_the_end_is_one_of_the_fetches(tmp_path: Path, count: str, arrays: int) -> None:
    arguments = [str(GADGETS / "count_syscalls"), "--verify-image=false", "--host"]
    arguments += ["-o", "json", "--map-fetch-interval", "1h", "--map-fetch-count", count]
    with RunningGadget(tmp_path, *arguments) as run:
        run.wait_running()
        assert run.end() == 0
    assert len(run.out.splitlines()) == arrays
    assert json.loads(run.out)


@pytest.mark.needs("raw_tracepoint")
def test_columns_have_a_header_for_each_array(tmp_path: Path) -> None:
    arguments = [str(GADGETS / "count_syscalls"), "--verify-image=false", "--host"]
    arguments += ["--map-fetch-interval", "50ms", "--max-entries", "1", "--fields", "pid,calls"]
    arguments += ["--annotate", "calls:cli.clear-screen-before=true"]
    with RunningGadget(tmp_path, *arguments) as run:
        run.wait_running()
        wait_for(lambda: run.out.count("\n") > 4, "two arrays")
        assert run.end() == 0
    lines = run.out.splitlines()
    # Standard output is no terminal: nothing clears it.
    assert lines[0] == lines[2] == lines[4] == f"{'PID':>16} {'CALLS':>10}"
    assert "\x1b" not in run.out
