// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// A map that all objects share which name it so.
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ig_py_test_pinned SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} of_each SEC(".maps");

SEC("socket")
int count(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u64 *shared = bpf_map_lookup_elem(&ig_py_test_pinned, &zero);
	__u64 *own = bpf_map_lookup_elem(&of_each, &zero);

	return shared && own;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
