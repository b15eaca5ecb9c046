// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Executions twice: in a buffer that a few events fill, and in one that has room for them. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>

#include <gadget/buffer.h>
#include <gadget/mntns_filter.h>
#include <gadget/macros.h>
#include <gadget/mntns.h>
#include <gadget/types.h>

struct large {
	gadget_mntns_id mntns_id;
	char padding[7000];
};

struct small {
	gadget_mntns_id mntns_id;
};

GADGET_TRACER_MAP(larges, 1024 * 256);
GADGET_TRACER(large, larges, large);

GADGET_TRACER_MAP_GLOBAL_LOSS(smalls, 1024 * 256);
GADGET_TRACER(small, smalls, small);

SEC("raw_tp/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 mntns_id = gadget_get_current_mntns_id();
	struct small event = {.mntns_id = mntns_id};
	struct large *large;

	if (gadget_should_discard_mntns_id(mntns_id))
		return 0;
	gadget_output_buf(ctx, &smalls, &event, sizeof(event));
	large = gadget_reserve_buf(&larges, sizeof(*large));
	if (!large)
		return 0;
	large->mntns_id = mntns_id;
	large->padding[0] = 0; /* a text that ends here */
	gadget_submit_buf(ctx, &larges, large, sizeof(*large));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
