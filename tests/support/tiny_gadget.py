"""A gadget of a few lines that needs only the kernel's public headers."""

from __future__ import annotations

from pathlib import Path

PROGRAM = """\
// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#define GADGET_NO_BUF_RESERVE
#include <gadget/macros.h>
#include <gadget/types.h>

struct event {
	gadget_timestamp timestamp_raw;
	__u32 pid;
	__u32 __internal;
	char comm[16];
};

struct key {
	__u32 cpu;
};

struct value {
	__u64 count;
};

const volatile __u32 limit = 7;
GADGET_PARAM(limit);

const volatile gadget_pid targ_pid = 0;
GADGET_PARAM(targ_pid);

const __u32 not_volatile = 7;
volatile __u32 not_const = 7;
static const volatile __u32 not_global = 7;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

GADGET_TRACER(ticks, events, event);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, struct key);
	__type(value, struct value);
} counts SEC(".maps");

GADGET_MAPITER(totals, counts);

SEC("raw_tracepoint/sys_enter")
int on_enter(void *ctx)
{
	struct event event = {.pid = limit + targ_pid + not_volatile + not_const + not_global};

	return bpf_ringbuf_output(&events, &event, sizeof(event), 0) != 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
"""

METADATA = """\
name: tiny
description: Counts nothing much
datasources:
  ticks:
    fields:
      pid:
        annotations:
          template: pid
params:
  ebpf:
    limit:
      key: limit
      description: How many
"""


def write_gadget(directory: Path, *, metadata: str | None = METADATA) -> Path:
    """The gadget's sources in *directory*, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "program.bpf.c").write_text(PROGRAM)
    if metadata is not None:
        (directory / "gadget.yaml").write_text(metadata)
    return directory
