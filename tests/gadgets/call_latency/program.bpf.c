// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* How long system calls of each process take: the family of histograms. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>

#include <gadget/bits.bpf.h>
#include <gadget/common.h>
#include <gadget/filter.h>
#include <gadget/macros.h>
#include <gadget/maps.bpf.h>
#include <gadget/types.h>

#define MAX_ENTRIES 1024
#define SLOTS 27

struct hist_key {
	gadget_pid pid;
};

struct hist_value {
	gadget_histogram_slot__u32 latency[SLOTS];
	gadget_counter__u64 calls;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
} began SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ENTRIES);
	__type(key, struct hist_key);
	__type(value, struct hist_value);
} hists SEC(".maps");

static const struct hist_value no_calls;

GADGET_MAPITER(calls, hists);

SEC("raw_tracepoint/sys_enter")
int on_enter(void *ctx)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	__u64 now = bpf_ktime_get_ns();

	if (!gadget_should_discard_data_current())
		bpf_map_update_elem(&began, &tid, &now, BPF_ANY);
	return 0;
}

SEC("raw_tracepoint/sys_exit")
int on_exit(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct hist_key key = {.pid = id >> 32};
	struct hist_value *value;
	__u32 tid = (__u32)id;
	__u64 *since, slot;

	since = bpf_map_lookup_elem(&began, &tid);
	if (!since)
		return 0;
	slot = get_slot_idx((bpf_ktime_get_ns() - *since) / 1000);
	bpf_map_delete_elem(&began, &tid);
	value = bpf_map_lookup_or_try_init(&hists, &key, &no_calls);
	if (!value)
		return 0;
	if (slot >= SLOTS)
		slot = SLOTS - 1;
	__sync_fetch_and_add(&value->latency[slot], 1);
	__sync_fetch_and_add(&value->calls, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
