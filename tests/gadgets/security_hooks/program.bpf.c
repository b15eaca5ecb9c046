// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Decisions of the security modules, watched; one hook that no kernel has. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include <gadget/buffer.h>
#include <gadget/macros.h>
#include <gadget/types.h>

struct event {
	gadget_pid pid;
	char hook[32];
};

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(decisions, events, event);

static __always_inline int seen(void *ctx, const char *hook)
{
	struct event *event = gadget_reserve_buf(&events, sizeof(*event));

	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_probe_read_kernel_str(event->hook, sizeof(event->hook), hook);
	gadget_submit_buf(ctx, &events, event, sizeof(*event));
	return 0;
}

SEC("lsm/file_open")
int BPF_PROG(on_file_open, struct file *file)
{
	return seen(ctx, "file_open");
}

SEC("lsm/bprm_check_security")
int BPF_PROG(on_bprm_check, struct linux_binprm *bprm)
{
	return seen(ctx, "bprm_check_security");
}

SEC("lsm/hook_of_the_future")
int BPF_PROG(on_future)
{
	return seen(ctx, "future");
}

char LICENSE[] SEC("license") = "GPL";
