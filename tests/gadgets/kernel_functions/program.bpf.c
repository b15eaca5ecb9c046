// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Every way to stop at a kernel function: kprobe, kretprobe, ksyscall and many at once. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include <gadget/buffer.h>
#include <gadget/macros.h>
#include <gadget/types.h>

struct event {
	gadget_timestamp timestamp_raw;
	gadget_pid pid;
	__s32 value;
	gadget_comm comm[TASK_COMM_LEN];
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
	event->timestamp_raw = bpf_ktime_get_boot_ns();
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->value = value;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_probe_read_kernel_str(event->program, sizeof(event->program), program);
	gadget_submit_buf(ctx, &events, event, sizeof(*event));
	return 0;
}

SEC("kprobe/do_group_exit")
int BPF_KPROBE(on_entry, int code)
{
	return hit(ctx, "entry", code >> 8);
}

SEC("kretprobe/ksys_dup3")
int BPF_KRETPROBE(on_return, int fd)
{
	return hit(ctx, "return", fd);
}

SEC("ksyscall/umask")
int BPF_KSYSCALL(on_syscall, int mask)
{
	return hit(ctx, "syscall", mask);
}

SEC("kretsyscall/umask")
int BPF_KRETPROBE(on_syscall_return, int old)
{
	return hit(ctx, "sysret", old);
}

SEC("kprobe.multi/do_group_exi?")
int BPF_KPROBE(on_many, int code)
{
	return hit(ctx, "many", code >> 8);
}

SEC("?kprobe/gadget_program_disabled")
int BPF_KPROBE(on_nothing)
{
	return hit(ctx, "nothing", 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
