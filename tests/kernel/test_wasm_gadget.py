"""A wasm module with real events: fields, an own data source, parameters, a chosen target."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.running_gadget import RunningGadget, ig_py
from support.waiting import wait_for
from support.wasm import (
    ADD_I64,
    DROP,
    Text,
    call,
    global_get,
    global_set,
    i32,
    i64,
    local,
    module,
)

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang"),
    pytest.mark.timeout(300),
    pytest.mark.any_kernel,
]

SOURCE = """
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <gadget/buffer.h>
#include <gadget/macros.h>
#include <gadget/types.h>

struct event {
	__u32 pid;
	char path[64];
};

GADGET_TRACER_MAP(events, 4096);
GADGET_TRACER(removals, events, event);

SEC("tracepoint/syscalls/sys_enter_unlink")
int on_removal(void *ctx)
{
	struct event event = {.pid = bpf_get_current_pid_tgid() >> 32, .path = "a\\0b"};

	gadget_output_buf(ctx, &events, &event, sizeof(event));
	return 0;
}

char _license[] SEC("license") = "GPL";
"""
METADATA = """
name: removals
datasources:
  removals:
    fields:
      twice:
        annotations:
          columns.width: 9
params:
  wasm:
    mode:
      key: mode
      defaultValue: fast
"""


def gadget(directory: Path) -> str:
    """Its module moves the program to sys_enter_rmdir, adds `twice` of the pid, shows the bytes
    behind the NUL of `path`, and emits an event of its own for each."""
    text = Text()
    init = (
        call("setConfig", text("programs.on_removal.attach_to"),
             text("syscalls/sys_enter_rmdir"), i32(12)) + DROP
        + call("getDataSource", text("removals")) + global_set(0)
        + call("dataSourceGetField", global_get(0), text("pid")) + global_set(1)
        + call("dataSourceAddField", global_get(0), text("twice"), i32(9)) + global_set(2)
        + call("newDataSource", text("told"), i32(1)) + global_set(3)
        + call("dataSourceAddField", global_get(3), text("mode"), i32(12)) + global_set(4)
        + call("getParamValue", text("mode"), i64(4 << 32 | 1000)) + DROP
        + call("dataSourceSubscribe", global_get(0), i32(1), i32(0), i64(1))
    )  # fmt: skip
    pid = call("fieldGetScalar", global_get(1), local(2), i32(8), i32(0))
    callback = (
        call("fieldSet", global_get(2), local(2), i32(9), pid, pid, ADD_I64) + DROP
        + call("dataSourceNewPacketSingle", global_get(3)) + global_set(5)
        + call("fieldSet", global_get(4), global_get(5), i32(12), i64(4 << 32 | 1000)) + DROP
        + call("dataSourceEmitAndRelease", global_get(3), global_get(5)) + DROP
    )  # fmt: skip
    directory.mkdir()
    (directory / "program.bpf.c").write_text(SOURCE)
    (directory / "gadget.yaml").write_text(METADATA)
    (directory / "build.yaml").write_text("wasm: program.wasm\n")
    wasm = module({"gadgetInit": init}, text=text, callback=callback)
    (directory / "program.wasm").write_bytes(wasm)
    return str(directory)


def test_events_with_what_the_module_made(tmp_path: Path) -> None:
    source = gadget(tmp_path / "g")
    with RunningGadget(tmp_path, source, "-o", "json", "--mode=slow") as run:
        run.wait_running()

        def events() -> list[dict[str, Any]]:
            return [json.loads(line) for line in run.out.rpartition("\n")[0].splitlines()]

        def mine() -> list[dict[str, Any]]:
            return [e for e in events() if e.get("pid") == os.getpid()]

        (tmp_path / "d").mkdir()
        (tmp_path / "d").rmdir()
        wait_for(mine, "an event")
        wait_for(lambda: {"mode": "slow"} in events(), "an event of the module's own")
        assert mine()[0]["twice"] == 2 * os.getpid()
        assert run.end() == 0
    assert "(wasm)" not in run.err


def test_its_fields_are_declared_and_filtered_by(tmp_path: Path) -> None:
    source = gadget(tmp_path / "g")
    done = ig_py("image", "inspect", source, "--show-datasources")
    assert done.returncode == 0, done.stderr
    sources = {ds["name"]: ds for ds in json.loads(done.stdout)}
    fields = {f["fullName"]: f for f in sources["removals"]["fields"]}
    assert fields["twice"]["annotations"]["columns.width"] == "9"
    assert [f["fullName"] for f in sources["told"]["fields"]] == ["mode"]
    done = ig_py("run", source, "--filter.removals", "nothing==1", "--timeout", "1")
    assert (done.returncode, "nothing" in done.stderr) == (1, True)
    flags = ("-o", "removals:json,told:none", "--filter.removals", f"twice=={2 * os.getpid()}")
    with RunningGadget(tmp_path / "run", source, *flags) as run:
        run.wait_running()
        (tmp_path / "d").mkdir()
        (tmp_path / "d").rmdir()
        wait_for(lambda: "twice" in run.out, "an event")
        assert run.end() == 0
    assert {json.loads(line)["pid"] for line in run.out.splitlines()} == {os.getpid()}
