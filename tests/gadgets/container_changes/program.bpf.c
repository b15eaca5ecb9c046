// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Executions in containers, beside the data source that tells of the containers themselves. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>

#include <gadget/buffer.h>
#include <gadget/mntns_filter.h>
#include <gadget/macros.h>
#include <gadget/mntns.h>
#include <gadget/types.h>

struct event {
	gadget_mntns_id mntns_id;
	gadget_comm comm[TASK_COMM_LEN];
};

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(executions, events, event);

SEC("raw_tp/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 mntns_id = gadget_get_current_mntns_id();
	struct event *event;

	if (gadget_should_discard_mntns_id(mntns_id))
		return 0;
	event = gadget_reserve_buf(&events, sizeof(*event));
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->mntns_id = mntns_id;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	gadget_submit_buf(ctx, &events, event, sizeof(*event));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
