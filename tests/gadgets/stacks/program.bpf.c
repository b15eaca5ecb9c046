// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Where a system call came from: a kernel and a user stack in one event. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>

#include <gadget/buffer.h>
#include <gadget/common.h>
#include <gadget/filter.h>
#include <gadget/kernel_stack_map.h>
#include <gadget/macros.h>
#include <gadget/types.h>
#include <gadget/user_stack_map.h>

struct event {
	struct gadget_process proc;
	gadget_kernel_stack kstack_raw;
	gadget_kernel_stack nowhere_raw;
	struct gadget_user_stack ustack;
};

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(calls, events, event);

#ifdef __TARGET_ARCH_x86
#define GETPGID 121
#else
#define GETPGID 155
#endif

/* Not the system call's own tracepoint: kernels like 6.1 know no kernel stack there, only -EFAULT. */
SEC("raw_tp/sys_enter")
int on_getpgid(struct bpf_raw_tracepoint_args *ctx)
{
	struct event *event;

	if (ctx->args[1] != GETPGID)
		return 0;
	if (gadget_should_discard_data_current())
		return 0;
	event = gadget_reserve_buf(&events, sizeof(*event));
	if (!event)
		return 0;
	gadget_process_populate(&event->proc);
	event->kstack_raw = gadget_get_kernel_stack(ctx);
	event->nowhere_raw = -17; /* another stack has its place */
	gadget_get_user_stack_from_tracepoint(ctx, &event->ustack);
	gadget_submit_buf(ctx, &events, event, sizeof(*event));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
