// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Which process each CPU runs, some times a second. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>

#include <gadget/buffer.h>
#include <gadget/macros.h>
#include <gadget/types.h>

struct event {
	gadget_pid pid;
	__u32 cpu;
	gadget_comm comm[TASK_COMM_LEN];
};

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(samples, events, event);

SEC("perf_event/sampler")
int on_sample(struct bpf_perf_event_data *ctx)
{
	struct event *event;
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (!pid)
		return 0;
	event = gadget_reserve_buf(&events, sizeof(*event));
	if (!event)
		return 0;
	event->pid = pid;
	event->cpu = bpf_get_smp_processor_id();
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	gadget_submit_buf(ctx, &events, event, sizeof(*event));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
