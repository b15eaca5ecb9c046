"""Every event is emitted or counted lost, to the last one, through the command line.

Rings of a few events, loads flat out, in bursts, and while the tracer is stopped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bench_load import bench_load
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget
from support.waiting import SLOWNESS, deadline, wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "ringbuf", "tracepoint", "clang"),
    pytest.mark.timeout(600),
]

CHECKOUT = Path(__file__).resolve().parents[2]
UID = 100_000 + os.getpid() % 900_000
"""Unique to this test: events of another load with the same uid would be counted."""
RUNS = 20 if SLOWNESS == 1 else 4
"""An emulated processor is slower, not other: what it would add is the kernel's version."""
TINY = {"open": "8K", "exec": "16K"}
"""A handful of events: a trace_exec event alone has more than 7 KiB."""
FLAT_OUT = {"open": 20_000, "exec": 200}
BURSTS = {"open": (8, 300), "exec": (3, 20)}
STOPPED = {"open": 3_000, "exec": 40}


@pytest.fixture(scope="module")
def load() -> Iterator[str]:
    with bench_load() as path:
        yield path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Kind of load -> the image whose gadget traces it."""
    folder = tmp_path_factory.mktemp("images")
    return {
        "open": str(image_tar(folder, CHECKOUT / "tests/gadgets/trace_open")),
        "exec": str(image_tar(folder)),
    }


class Account:
    """What the loads of one run produced."""

    def __init__(self, load: str, kind: str) -> None:
        self.argv = [load, kind]
        self.kind = kind
        self.produced = 0

    def run(self, count: int) -> None:
        self.add(self.start(count))

    def start(self, count: int) -> subprocess.Popen[str]:
        argv = [*self.argv, str(count), "0", str(UID)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def add(self, process: subprocess.Popen[str]) -> None:
        out, _ = process.communicate(timeout=deadline(60))
        assert process.returncode == 0, out
        self.produced += json.loads(out)["produced"]


def phases(account: Account, tracer: RunningGadget) -> None:
    """Flat out; bursts with the reader awake in between; a reader that is stopped."""
    kind = account.kind
    account.run(FLAT_OUT[kind])
    bursts, size = BURSTS[kind]
    for _ in range(bursts):
        account.run(size)
    tracer.process.send_signal(signal.SIGSTOP)
    stat = Path(f"/proc/{tracer.process.pid}/stat")
    wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it stops")
    account.run(STOPPED[kind])
    last = account.start(STOPPED[kind])
    tracer.process.send_signal(signal.SIGCONT)
    account.add(last)


def check(tmp_path: Path, image: str, account: Account, mode: str) -> int:
    """One run; how many events were lost in it."""
    arguments = ["--verify-image=false", "--host", "-o", mode, f"--uid={UID}"]
    ring = f"--buffer-size={TINY[account.kind]}"
    with RunningGadget(tmp_path, image, *arguments, ring) as tracer:
        tracer.wait_running()
        phases(account, tracer)
        assert tracer.end() == 0
        emitted, lost = tracer.account()
        what = f"{emitted} emitted + {lost} lost, {account.produced} produced: {tracer.err}"
        assert emitted + lost == account.produced, what
        lines = tracer.events()
    assert len(lines) == (emitted if mode == "json" else 0)
    assert all(event["proc"]["creds"]["uid"] == UID for event in lines)
    return lost


@pytest.mark.parametrize("mode", ["json", "none"])
@pytest.mark.parametrize("part", range(RUNS // 2))
def test_opens(tmp_path: Path, images: dict[str, str], load: str, mode: str, part: int) -> None:
    lost = check(tmp_path, images["open"], Account(load, "open"), mode)
    assert lost > STOPPED["open"] // 2, "the ring was not full: nothing was tested"


@pytest.mark.parametrize("mode", ["json", "none"])
def test_executions(tmp_path: Path, images: dict[str, str], load: str, mode: str) -> None:
    lost = check(tmp_path, images["exec"], Account(load, "exec"), mode)
    assert lost > STOPPED["exec"] // 2, "the ring was not full: nothing was tested"
