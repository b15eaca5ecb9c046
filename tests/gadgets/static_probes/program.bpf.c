// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Static probes of programs, with their arguments. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

#include <gadget/buffer.h>
#include <gadget/macros.h>
#include <gadget/types.h>

struct event {
	gadget_pid pid;
	__s32 number;
	char program[16];
};

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(hits, events, event);

static __always_inline int hit(void *ctx, const char *program, __s32 number)
{
	struct event *event = gadget_reserve_buf(&events, sizeof(*event));

	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->number = number;
	bpf_probe_read_kernel_str(event->program, sizeof(event->program), program);
	gadget_submit_buf(ctx, &events, event, sizeof(*event));
	return 0;
}

SEC("usdt//nowhere:ours:plain")
int BPF_USDT(on_plain, int number)
{
	return hit(ctx, "plain", number);
}

SEC("usdt//nowhere:ours:guarded")
int BPF_USDT(on_guarded, int number)
{
	return hit(ctx, "guarded", number);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
