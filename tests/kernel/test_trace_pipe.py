"""``--trace-pipe``: what a program prints is shown while the gadget runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.running_gadget import RunningGadget
from support.waiting import wait_for

pytestmark = [pytest.mark.needs("root", "bpf", "tracepoint", "clang"), pytest.mark.any_kernel]

PROGRAM = """\
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <gadget/macros.h>
#include <gadget/types.h>

const volatile __u32 asked = 0;
GADGET_PARAM(asked);

SEC("raw_tracepoint/sys_enter")
int on_enter(void *ctx)
{
	if (bpf_get_current_pid_tgid() >> 32 == asked)
		bpf_printk("seen %d of us", 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
"""


def test_prints_are_messages(tmp_path: Path) -> None:
    source = tmp_path / "prints"
    source.mkdir()
    (source / "program.bpf.c").write_text(PROGRAM)
    (source / "gadget.yaml").write_text("name: prints\n")
    flags = ("--trace-pipe", f"--asked={os.getpid()}")
    with RunningGadget(tmp_path / "run", str(source), *flags) as run:
        run.wait_running()

        def printed() -> bool:
            os.getppid()
            return "seen 1 of us" in run.err

        wait_for(printed, "the program's words are shown", 20)
        assert run.end() == 0, run.err
    assert "level=info" in next(line for line in run.err.splitlines() if "seen 1" in line)
