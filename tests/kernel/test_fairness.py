"""With a budget a flooding container costs a quiet one no event; without, nearly all.

Two mount namespaces and one small ring; the reader stands still while it fills, so that the
result does not depend on speed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.root_gadget import image_tar
from support.running_gadget import RunningGadget, ig_py
from support.waiting import deadline, wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "ringbuf", "tracepoint", "clang"),
    pytest.mark.timeout(900),
]

CHECKOUT = Path(__file__).resolve().parents[2]
GADGET = CHECKOUT / "tests/gadgets/trace_open"
UID = 300_000 + os.getpid() % 100_000
"""This process's own: another run of this test may use the same machine."""
RING = "128K"
"""Far more than two budgets, far less than a flood."""
BUDGET = 25
FLOOD = 20_000
QUIET = 20


class Namespace:
    """A mount namespace of its own, kept by a process that sleeps."""

    def __init__(self, load: str) -> None:
        self._load = load
        self._keeper = subprocess.Popen(["unshare", "-m", "sleep", "1000"])
        own = Path("/proc/self/ns/mnt").stat().st_ino
        mine = Path(f"/proc/{self._keeper.pid}/ns/mnt")
        wait_for(lambda: mine.stat().st_ino != own, "the namespace is there")
        self.id = mine.stat().st_ino
        self.produced = 0

    def start(self, count: int, rate: int = 0) -> subprocess.Popen[str]:
        enter = ["nsenter", "-m", "-t", str(self._keeper.pid)]
        argv = [*enter, self._load, "open", str(count), str(rate), str(UID)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def finish(self, process: subprocess.Popen[str]) -> None:
        out, _ = process.communicate(timeout=deadline(60))
        assert process.returncode == 0, out
        self.produced += json.loads(out)["produced"]

    def run(self, count: int) -> None:
        self.finish(self.start(count))

    def end(self) -> None:
        self._keeper.kill()
        self._keeper.wait()


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("fair") / "load"
    source = CHECKOUT / "bench" / "load.c"
    argv = ["cc", "-O2", "-static", "-pthread", str(source), "-o", str(path)]
    subprocess.run(argv, check=True, timeout=deadline(60))
    return str(path)


@pytest.fixture
def spaces(load: str) -> Iterator[tuple[Namespace, Namespace]]:
    """(flooder, quiet)."""
    flooder = Namespace(load)
    try:
        quiet = Namespace(load)
        try:
            yield flooder, quiet
        finally:
            quiet.end()
    finally:
        flooder.end()


@pytest.fixture(scope="module")
def trace_open(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("fair-image"), GADGET))


class Outcome:
    """What a run made of a flood, first with its reader stopped and then side by side."""

    def __init__(
        self, folder: Path, gadget: str, spaces: tuple[Namespace, Namespace], *extra: str
    ) -> None:
        flooder, quiet = spaces
        flags = ["--verify-image=false", "--host", "-o", "json", f"--uid={UID}"]
        with RunningGadget(folder, gadget, *flags, f"--buffer-size={RING}", *extra) as tracer:
            tracer.wait_running()
            tracer.process.send_signal(signal.SIGSTOP)
            stat = Path(f"/proc/{tracer.process.pid}/stat")
            wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it stops")
            flooder.run(FLOOD)
            quiet.run(QUIET)
            tracer.process.send_signal(signal.SIGCONT)
            slow, flood = quiet.start(QUIET, rate=BUDGET // 2), flooder.start(FLOOD)
            flooder.finish(flood)
            quiet.finish(slow)
            assert tracer.end() == 0
            self.emitted, self.lost = tracer.account()
            self.err = tracer.err
            events = tracer.events()
        senders = [event["proc"]["mntns_id"] for event in events]
        assert len(senders) == self.emitted
        self.of = {space.id: senders.count(space.id) for space in spaces}
        assert sum(self.of.values()) == self.emitted
        found = re.search(r"(\d+) throttled", self.err.splitlines()[-1])
        self.throttled = int(found[1]) if found else None

    def records(self) -> list[dict[str, Any]]:
        lines = [line for line in self.err.splitlines() if line.startswith('{"type":"loss"')]
        return [json.loads(line) for line in lines]


def test_without_a_budget_the_quiet_one_loses(
    tmp_path: Path, trace_open: str, spaces: tuple[Namespace, Namespace]
) -> None:
    flooder, quiet = spaces
    outcome = Outcome(tmp_path, trace_open, spaces)
    assert outcome.throttled is None
    assert outcome.emitted + outcome.lost == flooder.produced + quiet.produced
    assert outcome.of[quiet.id] <= quiet.produced - QUIET, "the ring was not full"


def test_with_a_budget_it_loses_nothing(
    tmp_path: Path, trace_open: str, spaces: tuple[Namespace, Namespace]
) -> None:
    flooder, quiet = spaces
    outcome = Outcome(tmp_path, trace_open, spaces, f"--budget={BUDGET}")
    assert quiet.produced == 2 * QUIET
    assert outcome.of[quiet.id] == quiet.produced, outcome.err
    assert outcome.lost == 0
    kept_back = flooder.produced - outcome.of[flooder.id]
    assert kept_back > FLOOD
    assert outcome.throttled == kept_back
    assert f"(mntns {flooder.id} {kept_back})" in outcome.err.splitlines()[-1]
    records = outcome.records()
    assert sum(record["throttled_new"] for record in records) == kept_back
    assert records[-1]["throttled_by"] == [
        {"mntns": flooder.id, "container": "", "throttled": kept_back}
    ]


def test_a_full_ring_and_a_budget_together(
    tmp_path: Path, trace_open: str, spaces: tuple[Namespace, Namespace]
) -> None:
    """A budget larger than the ring: some are throttled, some lost, none missing."""
    flooder, quiet = spaces
    outcome = Outcome(tmp_path, trace_open, spaces, "--budget=1000")
    assert outcome.throttled
    assert outcome.lost
    produced = flooder.produced + quiet.produced
    assert outcome.emitted + outcome.lost + outcome.throttled == produced, outcome.err


def test_a_budget_is_for_a_namespace_not_for_each_cpu(
    tmp_path: Path, trace_open: str, load: str
) -> None:
    space = Namespace(load)
    flags = ["--verify-image=false", "--host", "-o", "none", f"--uid={UID}", "--budget=10"]
    try:
        with RunningGadget(tmp_path, trace_open, *flags) as tracer:
            tracer.wait_running()
            loads = [space.start(5_000) for _ in range(4)]
            for process in loads:
                space.finish(process)
            assert tracer.end() == 0
            emitted, lost = tracer.account()
            last = tracer.err.splitlines()[-1]
    finally:
        space.end()
    assert space.produced == 20_000
    assert lost == 0
    assert f"(mntns {space.id} {space.produced - emitted})" in last
    assert emitted < 1_000


CROWD = 1_500
"""More than the table of a budget has places."""
ENTER_MANY = """
import ctypes, os, resource, sys

CLONE_NEWNS, COUNT = 0x20000, int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
resource.setrlimit(resource.RLIMIT_NOFILE, (3 * COUNT, 3 * COUNT))
sys.stdin.readline()
# Held open, so that every namespace stays and keeps its number.
for _ in range(COUNT):
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    os.open("/proc/self/ns/mnt", os.O_RDONLY)
    os.open("/proc/self/ns/mnt", os.O_RDONLY)
print("done", flush=True)
sys.stdin.readline()
"""


def test_namespaces_without_a_slot_share_one(tmp_path: Path, trace_open: str) -> None:
    argv = [sys.executable, "-P", "-c", ENTER_MANY, str(CROWD)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdin is not None and crowd.stdout is not None
        flags = ["--verify-image=false", "--host", "-o", "none", f"--pid={crowd.pid}"]
        with RunningGadget(tmp_path, trace_open, *flags, "--budget=1") as tracer:
            tracer.wait_running()
            print(file=crowd.stdin, flush=True)
            assert crowd.stdout.readline() == "done\n"
            assert tracer.end() == 0
            emitted, lost = tracer.account()
            last = tracer.err.splitlines()[-1]
        print(file=crowd.stdin, flush=True)
    found = re.search(r", (\d+) throttled \(others (\d+), mntns \d+ 1, ", last)
    assert found, last
    assert emitted + lost + int(found[1]) == 2 * CROWD
    assert lost == 0
    assert int(found[2]) > CROWD // 4
    assert int(found[1]) >= CROWD, "each opened twice what it may open once"


SOURCES = {
    "opted out": "#define GADGET_NO_BUDGET\n#include <vmlinux.h>\n",
    "networking": "#define GADGET_TYPE_NETWORKING\n#include <vmlinux.h>\n",
    "without vmlinux.h": "#include <linux/bpf.h>\n#include <linux/types.h>\n#include <stdbool.h>\n",
}
PROGRAM = """
#include <bpf/bpf_helpers.h>
#include <gadget/buffer.h>
#include <gadget/macros.h>
#include <gadget/types.h>

struct event { __u64 n; };
GADGET_TRACER_MAP(events, 4096);
GADGET_TRACER(small, events, event);

SEC("tracepoint/syscalls/sys_enter_openat")
int prog(void *ctx)
{
	struct event *event = gadget_reserve_buf(&events, sizeof(*event));
	struct event other = {.n = 2};

	gadget_output_buf(ctx, &events, &other, sizeof(other));
	if (!event)
		return 0;
	event->n = 1;
	gadget_submit_buf(ctx, &events, event, sizeof(*event));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
"""


@pytest.mark.any_kernel
@pytest.mark.parametrize("kind", SOURCES)
def test_objects_without_a_budget_still_run(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "gadget"
    source.mkdir()
    (source / "program.bpf.c").write_text(SOURCES[kind] + PROGRAM)
    (source / "gadget.yaml").write_text("name: small\n")
    tar = str(image_tar(tmp_path, source))
    flags = ["--verify-image=false", "-o", "none", "--timeout", "1"]
    assert ig_py("run", tar, *flags).returncode == 0
    refused = ig_py("run", tar, *flags, "--budget", "5")
    assert refused.returncode == 1
    assert "keep no budget" in refused.stderr
