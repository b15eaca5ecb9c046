// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Functions of programs and libraries: uprobe, uretprobe and many at once. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include <gadget/buffer.h>
#include <gadget/common.h>
#include <gadget/filter.h>
#include <gadget/macros.h>
#include <gadget/types.h>

struct event {
	gadget_mntns_id mntns_id;
	gadget_pid pid;
	__s32 value;
	gadget_comm comm[TASK_COMM_LEN];
	char program[16];
};

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(hits, events, event);

static __always_inline int hit(void *ctx, const char *program, __s32 value)
{
	struct event *event;

	if (gadget_should_discard_data_current())
		return 0;
	event = gadget_reserve_buf(&events, sizeof(*event));
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->mntns_id = gadget_get_current_mntns_id();
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->value = value;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_probe_read_kernel_str(event->program, sizeof(event->program), program);
	gadget_submit_buf(ctx, &events, event, sizeof(*event));
	return 0;
}

SEC("uprobe/libc:setlinebuf")
int BPF_UPROBE(on_library)
{
	return hit(ctx, "library", 0);
}

SEC("uprobe/libc:gadget_program_disabled")
int BPF_UPROBE(on_function, int argument)
{
	return hit(ctx, "function", argument);
}

SEC("uretprobe/libc:gadget_program_disabled")
int BPF_URETPROBE(on_return, int result)
{
	return hit(ctx, "return", result);
}

SEC("uprobe.multi/libc:gadget_program_disabled")
int BPF_UPROBE(on_many, int argument)
{
	return hit(ctx, "many", argument);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
