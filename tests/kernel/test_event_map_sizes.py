"""The size that the kernel's map has, and what a burst of large events loses."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support import bpf_ids
from support.running_gadget import RunningGadget
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "ringbuf"),
    pytest.mark.timeout(300),
]

BURST = 1500
"""Events of 8 KiB: 12 MiB, more than the default size and less than what the gadget declares."""
SOURCE = """
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <gadget/buffer.h>
#include <gadget/macros.h>

struct event {
	__u32 pid;
	char body[8192];
};

GADGET_TRACER_MAP(large_ring, 1 << 24);
GADGET_TRACER(large, large_ring, event);

SEC("tracepoint/syscalls/sys_enter_mkdir")
int on_mkdir(void *ctx)
{
	struct event *event = gadget_reserve_buf(&large_ring, sizeof(*event));

	if (!event)
		return 0;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->body[0] = 0;
	gadget_submit_buf(ctx, &large_ring, event, sizeof(*event));
	return 0;
}

char _license[] SEC("license") = "GPL";
"""


def lost(tmp_path: Path, *flags: str) -> tuple[int, list[int]]:
    """(events lost of the burst, sizes of the ring in the kernel)."""
    gadget = tmp_path / "g"
    gadget.mkdir()
    (gadget / "program.bpf.c").write_text(SOURCE)
    (gadget / "gadget.yaml").write_text("name: large\n")
    with RunningGadget(tmp_path, str(gadget), "-o", "none", *flags) as run:
        run.wait_running()
        sizes = [
            entries
            for number, name in bpf_ids.ids("map").items()
            if name == "large_ring" and (entries := bpf_ids.max_entries(number))
        ]
        run.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: "T" in state(run.process.pid), "the gadget is stopped")
        burst = tmp_path / "burst"
        burst.mkdir()
        for number in range(BURST):
            (burst / str(number)).mkdir()
        run.process.send_signal(signal.SIGCONT)
        assert run.end() == 0
    emitted, lost = run.account()
    assert emitted + lost >= BURST
    return lost, sizes


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_gadget_keeps_its_larger_ring(tmp_path: Path) -> None:
    assert lost(tmp_path) == (0, [16 << 20])


def test_the_flag_makes_it_smaller(tmp_path: Path) -> None:
    missing, sizes = lost(tmp_path, "--buffer-size", "8M")
    assert missing > 0
    assert sizes == [8 << 20]
