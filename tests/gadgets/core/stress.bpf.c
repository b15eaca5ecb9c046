// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// Events on demand: each getppid() of one process writes `burst` of them, to a ring
// buffer and to a perf event array, and counts what it produced and what failed.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#if defined(__TARGET_ARCH_arm64)
#define NR_GETPPID 173
#else
#define NR_GETPPID 110
#endif
#define MAX_BURST 4096
#ifndef SUBMIT_FLAGS
#define SUBMIT_FLAGS 0
#endif

struct event {
	__u64 sequence;
	__u64 mntns_id;
	__u32 pid;
	char text[44];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} events_lost_samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} produced SEC(".maps");

const volatile __u32 target_pid = 0;
const volatile __u32 burst = 1;
const volatile __u32 use_perf = 0;
const volatile __u64 mntns = 0;

__u64 padding[3] = {};
__u64 lost_total = 0;

struct raw_sys_enter {
	__u64 regs;
	__s64 nr;
};

static __always_inline void fill(struct event *e, __u64 sequence)
{
	e->sequence = sequence;
	e->mntns_id = mntns;
	e->pid = target_pid;
	__builtin_memset(e->text, 0, sizeof(e->text));
	e->text[0] = 'h';
	e->text[1] = 'i';
}

SEC("raw_tracepoint/sys_enter")
int on_enter(struct raw_sys_enter *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 zero = 0;
	__u64 *count, *lost;
	__u32 i;

	if (id >> 32 != target_pid || ctx->nr != NR_GETPPID)
		return 0;
	count = bpf_map_lookup_elem(&produced, &zero);
	lost = bpf_map_lookup_elem(&events_lost_samples, &zero);
	if (!count || !lost)
		return 0;
	for (i = 0; i < MAX_BURST; i++) {
		if (i >= burst)
			break;
		if (use_perf) {
			struct event e;

			fill(&e, *count);
			bpf_perf_event_output(ctx, &records, BPF_F_CURRENT_CPU, &e, sizeof(e));
		} else {
			struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

			if (e) {
				fill(e, *count);
				bpf_ringbuf_submit(e, SUBMIT_FLAGS);
			} else {
				*lost += 1;
				__sync_fetch_and_add(&lost_total, 1);
			}
		}
		*count += 1;
	}
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_getppid")
int on_tracepoint(void *ctx)
{
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_nonsense")
int on_missing(void *ctx)
{
	return 0;
}

SEC("kprobe/do_exit")
int on_kprobe(void *ctx)
{
	return 0;
}

SEC("kprobe/sys_getppid")
int on_syscall_function(void *ctx)
{
	return 0;
}

SEC("ksyscall/getppid")
int on_ksyscall(void *ctx)
{
	return 0;
}

SEC("uprobe//usr/bin/true:main")
int on_uprobe(void *ctx)
{
	return 0;
}

SEC("socket1")
int on_socket(void *ctx)
{
	return 0;
}

SEC("fentry/vfs_read")
int on_fentry(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
