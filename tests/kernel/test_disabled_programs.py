"""Programs that are switched off, of every kind; and programs that libbpf leaves out by itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support import bpf_ids
from support.running_gadget import RunningGadget
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "raw_tracepoint", "clang"),
    pytest.mark.timeout(300),
    pytest.mark.any_kernel,
]

OFF = "gadget_program_disabled"
SECTIONS = (
    *(f"kprobe/{OFF}", f"kretprobe/{OFF}", f"ksyscall/{OFF}", f"kprobe.multi/{OFF}"),
    *(f"tracepoint/{OFF}", f"tracepoint/syscalls/{OFF}", f"raw_tp/{OFF}", f"tp_btf/{OFF}"),
    *(f"fentry/{OFF}", f"fexit/{OFF}", f"lsm/{OFF}", f"iter/{OFF}"),
    *(f"uprobe/{OFF}", f"uprobe/libc:{OFF}", f"uprobe.multi/libc:{OFF}", f"usdt/libc:a:{OFF}"),
    *(f"perf_event/{OFF}", f"socket1/{OFF}", f"classifier/ingress/{OFF}", f"xdp/{OFF}"),
    *(f"sockops/{OFF}", f"cgroup_skb/ingress/{OFF}", f"sk_msg/{OFF}", f"?kprobe/{OFF}"),
)
"""Whose target is the one of programs that are off, alone or as its last part."""
BY_METADATA = (
    *("kprobe/no_such", "tracepoint/no/such", "raw_tp/no_such", "tp_btf/no_such", "fentry/no_such"),
    *("lsm/no_such", "iter/no_such", "uprobe/libc:no_such", "perf_event/x", "xdp", "socket1"),
    *("classifier/ingress/x", "sockops", "sk_skb/stream_parser", "?tracepoint/no/such"),
)
"""Sections whose programs gadget.yaml switches off."""

HEAD = """
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <gadget/buffer.h>
#include <gadget/macros.h>

struct event {
	__u32 pid;
	__u32 from;
};

GADGET_TRACER_MAP(events, 4096);
GADGET_TRACER(off, events, event);

static __always_inline int tell(void *ctx, __u32 from)
{
	struct event event = {.pid = bpf_get_current_pid_tgid() >> 32, .from = from};

	gadget_output_buf(ctx, &events, &event, sizeof(event));
	return 0;
}

char _license[] SEC("license") = "GPL";
"""
CALLED = """
int called_one(void *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, int(void *));
} jumps SEC(".maps") = {.values = {[0] = (void *)&called_one}};

SEC("tracepoint/gadget_program_disabled")
int called_one(void *ctx)
{
	return tell(ctx, 2);
}

SEC("tracepoint/syscalls/sys_enter_rmdir")
int on_rmdir(void *ctx)
{
	bpf_tail_call(ctx, &jumps, 0);
	return 0;
}
"""


def program(name: str, section: str, number: int) -> str:
    return f'SEC("{section}")\nint {name}(void *ctx)\n{{\n\treturn tell(ctx, {number});\n}}\n'


def write(directory: Path, programs: str, metadata: str = "") -> Path:
    directory.mkdir()
    (directory / "program.bpf.c").write_text(HEAD + programs)
    (directory / "gadget.yaml").write_text(f"name: off\n{metadata}")
    return directory


def rmdir(directory: Path) -> None:
    directory.mkdir()
    directory.rmdir()


def events(run: RunningGadget) -> list[dict[str, int]]:
    whole = run.out.rpartition("\n")[0].splitlines()
    return [e for e in map(json.loads, whole) if e["pid"] == os.getpid()]


def test_no_kind_is_loaded_when_it_is_off(tmp_path: Path) -> None:
    here = "".join(program(f"off_{n}", s, n) for n, s in enumerate(SECTIONS))
    more = "".join(program(f"off_y{n}", s, n) for n, s in enumerate(BY_METADATA))
    metadata = "programs:\n" + "".join(
        f"  off_y{n}:\n    attach_to: {OFF}\n" for n in range(len(BY_METADATA))
    )
    gadget = write(tmp_path / "g", here + more + CALLED, metadata)
    with RunningGadget(tmp_path, str(gadget), "-o", "json") as run:
        run.wait_running()
        names = bpf_ids.ids("program").values()
        assert "on_rmdir" in names
        assert "called_one" in names, "called by another program, so it is loaded"
        assert [name for name in names if name.startswith("off_")] == []
        rmdir(tmp_path / "d")
        wait_for(lambda: events(run), "an event of the program that is called")
    assert {e["from"] for e in events(run)} == {2}


def test_programs_with_a_question_mark_are_loaded_and_attached(tmp_path: Path) -> None:
    """As `ig` does; libbpf alone would load none of them."""
    sections = ("?tracepoint/syscalls/sys_enter_rmdir", "?raw_tp/sys_enter")
    programs = "".join(program(f"maybe_{n}", s, n) for n, s in enumerate(sections))
    gadget = write(tmp_path / "g", programs)
    with RunningGadget(tmp_path, str(gadget), "-o", "json") as run:
        run.wait_running()
        rmdir(tmp_path / "d")
        wait_for(lambda: {e["from"] for e in events(run)} == {0, 1}, "an event of each program")


def test_a_program_with_a_question_mark_that_cannot_attach_is_skipped(tmp_path: Path) -> None:
    sections = ("?tracepoint/no/such", "?kprobe/no_such_function", "?perf_event/x", "?iter/no_such")
    programs = "".join(program(f"maybe_{n}", s, n) for n, s in enumerate(sections))
    gadget = write(tmp_path / "g", programs + CALLED)
    with RunningGadget(tmp_path, str(gadget), "-o", "json") as run:
        run.wait_running()
        rmdir(tmp_path / "d")
        wait_for(lambda: events(run), "an event of the program that is there")
    for section in sections:
        assert f"({section}) is skipped: " in run.err
