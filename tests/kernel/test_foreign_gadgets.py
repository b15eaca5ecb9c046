"""Gadgets of other authors that declare what is odd, and run all the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.running_gadget import RunningGadget, ig_py
from support.waiting import wait_for

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
	__u32 runtime;
	__u64 k8s;
	gadget_mntns_id mntns_id;
};

GADGET_TRACER_MAP(events, 4096);
GADGET_TRACER(odd, events, event);

int initialised = 7;
GADGET_PARAM(initialised);
int zero;
GADGET_PARAM(zero);

SEC("tracepoint/syscalls/sys_enter_rmdir")
int on_rmdir(void *ctx)
{
	struct event event = {
		.pid = bpf_get_current_pid_tgid() >> 32,
		.runtime = initialised,
		.k8s = zero,
		.mntns_id = 1,
	};

	gadget_output_buf(ctx, &events, &event, sizeof(event));
	return 0;
}

char _license[] SEC("license") = "GPL";
"""


def write(directory: Path) -> Path:
    directory.mkdir()
    (directory / "program.bpf.c").write_text(SOURCE)
    (directory / "gadget.yaml").write_text("name: odd\n")
    return directory


@pytest.mark.parametrize(
    ("flags", "values"), [((), (7, 0)), (("--initialised=9", "--zero=3"), (9, 3))]
)
def test_variables_that_are_not_const_and_names_of_container_fields(
    tmp_path: Path, flags: tuple[str, ...], values: tuple[int, int]
) -> None:
    gadget = write(tmp_path / "g")
    with RunningGadget(tmp_path, str(gadget), "--host", "-o", "json", *flags) as run:
        run.wait_running()

        def mine() -> list[dict[str, int]]:
            whole = run.out.rpartition("\n")[0].splitlines()
            return [e for e in map(json.loads, whole) if e["pid"] == os.getpid()]

        (tmp_path / "d").mkdir()
        (tmp_path / "d").rmdir()
        wait_for(mine, "an event")
        assert {(e["runtime"], e["k8s"]) for e in mine()} == {values}
    for text in ("'initialised' is not const", "'zero' is not const", "own field 'runtime'"):
        assert text in run.err, text
    assert "own field 'k8s'" in run.err


def test_the_build_tells_it(tmp_path: Path) -> None:
    done = ig_py("image", "build", str(write(tmp_path / "g")), "-t", "localhost/odd:1")
    assert done.returncode == 0, done.stderr
    for text in ("'initialised' is not const", "own field 'runtime'", "own field 'k8s'"):
        assert text in done.stderr, text
