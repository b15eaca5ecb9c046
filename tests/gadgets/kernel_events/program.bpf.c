// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The kernel's own events: tracepoint, raw_tracepoint and tp_btf. */
#include <vmlinux.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include <gadget/buffer.h>
#include <gadget/macros.h>
#include <gadget/types.h>

struct event {
	gadget_timestamp timestamp_raw;
	gadget_pid pid;
	gadget_comm comm[TASK_COMM_LEN];
	char program[16];
};

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(hits, events, event);

static __always_inline int hit(void *ctx, const char *program)
{
	struct event *event = gadget_reserve_buf(&events, sizeof(*event));

	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->timestamp_raw = bpf_ktime_get_boot_ns();
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_probe_read_kernel_str(event->program, sizeof(event->program), program);
	gadget_submit_buf(ctx, &events, event, sizeof(*event));
	return 0;
}

SEC("tracepoint/sched/sched_process_exec")
int on_tracepoint(void *ctx)
{
	return hit(ctx, "tracepoint");
}

SEC("raw_tp/sched_process_exec")
int on_raw(struct bpf_raw_tracepoint_args *ctx)
{
	return hit(ctx, "raw");
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_typed, struct task_struct *task)
{
	return hit(ctx, "typed");
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
