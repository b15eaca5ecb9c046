"""Gadgets that the kernel refuses: one line; with ``-v`` the verifier's whole log."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from support import costly, features
from support.running_gadget import ig_py

from ig_py.host.slowness import slowness
from ig_py.oci import media

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang"),
    pytest.mark.timeout(300),
]

MAX_SECONDS = 4.0
"""Processor time of a whole run of a costly image, on a usual machine; the last program that is
verified may go beyond the bound."""
SOURCE = """
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <gadget/buffer.h>
#include <gadget/macros.h>

struct event {{
	__u32 x;
}};

GADGET_TRACER_MAP(events, 4096);
GADGET_TRACER(refused, events, event);

SEC("{section}")
int program(void *ctx)
{{
	struct event event = {{}};

	gadget_output_buf(ctx, &events, &event, sizeof(event));
	{body}
}}

char _license[] SEC("license") = "GPL";
"""
METADATA = """
name: refused
datasources:
  refused:
    fields:
      x:
        annotations:
          description: A number
"""


def run(
    directory: Path, section: str, body: str, *flags: str, metadata: str = METADATA
) -> subprocess.CompletedProcess[str]:
    (directory / "program.bpf.c").write_text(SOURCE.format(section=section, body=body))
    (directory / "gadget.yaml").write_text(metadata)
    return ig_py("run", str(directory), "-o", "json", "--timeout", "1", *flags)


@pytest.mark.any_kernel
def test_the_verifier_refuses(tmp_path: Path) -> None:
    program = ("tracepoint/sched/sched_process_exec", "return *(volatile int *)bpf_ktime_get_ns();")
    done = run(tmp_path, *program)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: running gadget refused: the verifier rejects program ")
    assert "R0 invalid mem access" in line
    assert line.endswith("line(s) omitted): -v shows the whole log")
    done = run(tmp_path, *program, "-v")
    assert done.returncode == 1
    assert "call bpf_ktime_get_ns" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.any_kernel
def test_a_program_that_is_too_complex_costs_no_log_of_each_instruction(tmp_path: Path) -> None:
    """It took 7 s: the verifier gives up after a million instructions."""
    made = costly.Layout(tmp_path / "layout")
    layer = made.blob(costly.looping_programs(1, 600_000), media.EBPF_LAYER)
    made.write([costly.named(made.index([made.manifest([layer])]), "ghcr.io/x/y:1")])
    before = os.times()
    done = ig_py("run", str(made.root), "--verify-image=false")
    after = os.times()
    assert done.returncode == 1
    assert "program is too large. Processed 1000001 insn (" in done.stderr
    assert sum(after[2:4]) - sum(before[2:4]) < MAX_SECONDS * slowness()


@pytest.mark.any_kernel
def test_a_tracepoint_that_does_not_exist(tmp_path: Path) -> None:
    done = run(tmp_path, "tracepoint/no/such", "return 0;")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: running gadget refused: ")
    assert "no/such" in line


def test_a_kprobe_without_a_function(tmp_path: Path) -> None:
    done = run(tmp_path, "kprobe/no_such_function_4711", "return 0;")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "no_such_function_4711" in line
    assert ("this kernel has no kprobes" in line) == bool(features.missing("kprobe"))


def test_an_optional_kprobe_without_a_function(tmp_path: Path) -> None:
    metadata = f"{METADATA}programs:\n  program:\n    optional: true\n    fields: [x]\n"
    done = run(tmp_path, "kprobe/no_such_function_4711", "return 0;", metadata=metadata)
    assert done.returncode == 0
    notice, account = done.stderr.splitlines()
    assert "(kprobe/no_such_function_4711) is skipped: " in notice
    assert "these fields stay empty: x" in notice
    assert account.startswith("refused: 0 events emitted, ")


@pytest.mark.any_kernel
def test_a_disabled_program(tmp_path: Path) -> None:
    metadata = f"{METADATA}programs:\n  program:\n    attach_to: gadget_program_disabled\n"
    done = run(tmp_path, "kprobe/no_such_function_4711", "return 0;", metadata=metadata)
    assert done.returncode == 0, done.stderr


SECOND = """
SEC("tracepoint/sched/sched_process_exec")
int second(void *ctx)
{
	return 0;
}
"""


@pytest.mark.any_kernel
def test_programs_that_this_kernel_cannot_run_are_left_out(tmp_path: Path) -> None:
    program = ("tracepoint/no/such", "return 0;\n}\n" + SECOND.rstrip().removesuffix("}"))
    done = run(tmp_path, *program)
    assert done.returncode == 1
    done = run(tmp_path, *program, "--skip-unsupported")
    assert done.returncode == 0, done.stderr
    notice, account = done.stderr.splitlines()
    assert "(tracepoint/no/such) is skipped: " in notice
    assert account.startswith("refused: 0 events emitted, ")


@pytest.mark.any_kernel
def test_a_gadget_without_loadable_programs(tmp_path: Path) -> None:
    done = run(tmp_path, "tracepoint/no/such", "return 0;", "--skip-unsupported")
    assert done.returncode == 1
    assert "none of its programs can run on this kernel" in done.stderr.splitlines()[-1]


@pytest.mark.any_kernel
@pytest.mark.parametrize(
    "elf",
    [
        costly.looping_programs(1000, 300_000),
        # The verifier gives up on each after a million instructions.
        costly.looping_programs(100, 600_000, "?" + costly.SECTION),
    ],
    ids=["below the bound for one", "optional and refused"],
)
def test_programs_that_cost_the_verifier_minutes(tmp_path: Path, elf: bytes) -> None:
    made = costly.Layout(tmp_path / "layout")
    layer = made.blob(elf, media.EBPF_LAYER)
    made.write([costly.named(made.index([made.manifest([layer])]), "ghcr.io/x/y:1")])
    before = os.times()
    done = ig_py("run", str(made.root), "--verify-image=false")
    after = os.times()
    assert done.returncode == 1
    assert re.fullmatch(
        r"Error: running gadget x: loading its programs takes more than (1,500,000 instructions of "
        r"the kernel's verifier|[0-9.]+ s of processor time): the verifier takes too long for "
        r"them: make loops shorter",
        done.stderr.splitlines()[-1],
    )
    used = sum(after[2:4]) - sum(before[2:4])
    assert used < MAX_SECONDS * slowness()
