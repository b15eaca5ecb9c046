// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Runs at every system call, so that there is something to count. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

SEC("raw_tracepoint/sys_enter")
int on_enter(void *ctx)
{
	__u32 first = 0;
	__u64 *count = bpf_map_lookup_elem(&calls, &first);

	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
