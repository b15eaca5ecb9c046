// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Kernel functions by trampoline: fentry, fexit and fmod_ret. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include <gadget/buffer.h>
#include <gadget/macros.h>
#include <gadget/types.h>

struct event {
	gadget_pid pid;
	__s32 value;
	char program[16];
};

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(hits, events, event);

static __always_inline int hit(void *ctx, const char *program, __s32 value)
{
	struct event *event = gadget_reserve_buf(&events, sizeof(*event));

	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->value = value;
	bpf_probe_read_kernel_str(event->program, sizeof(event->program), program);
	gadget_submit_buf(ctx, &events, event, sizeof(*event));
	return 0;
}

SEC("fentry/do_group_exit")
int BPF_PROG(on_entry, int code)
{
	return hit(ctx, "entry", code >> 8);
}

SEC("fexit/vfs_unlink")
int BPF_PROG(on_exit)
{
	return hit(ctx, "exit", 0);
}

/* A hook that may refuse, and here never does. */
SEC("fmod_ret/security_file_open")
int BPF_PROG(on_decision, struct file *file, int ret)
{
	hit(ctx, "decision", ret);
	return ret;
}

char LICENSE[] SEC("license") = "GPL";
