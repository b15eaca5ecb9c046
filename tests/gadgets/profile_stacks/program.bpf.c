// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Samples of what runs, counted by stack: the family of profiles. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>

#include <gadget/common.h>
#include <gadget/filter.h>
#include <gadget/kernel_stack_map.h>
#include <gadget/macros.h>
#include <gadget/maps.bpf.h>
#include <gadget/types.h>
#include <gadget/user_stack_map.h>

#define MAX_COUNTS 10240

struct sample_key {
	gadget_kernel_stack kern_stack_raw;
	__u32 user_stack_id;
	struct gadget_process proc;
};

struct sample_value {
	__u64 samples;
	struct gadget_user_stack user_stack_raw;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_COUNTS);
	__type(key, struct sample_key);
	__type(value, struct sample_value);
} counts SEC(".maps");

static const struct sample_value no_samples;

GADGET_MAPITER(samples, counts);

SEC("perf_event/sampler")
int on_sample(struct bpf_perf_event_data *ctx)
{
	struct gadget_user_stack stack = {};
	struct sample_value *value;
	struct sample_key key = {};

	if (!(__u32)bpf_get_current_pid_tgid() || gadget_should_discard_data_current())
		return 0;
	gadget_process_populate(&key.proc);
	gadget_get_user_stack(ctx, &stack);
	key.user_stack_id = stack.stack_id;
	key.kern_stack_raw = gadget_get_kernel_stack(ctx);
	value = bpf_map_lookup_or_try_init(&counts, &key, &no_samples);
	if (!value)
		return 0;
	value->user_stack_raw = stack;
	__sync_fetch_and_add(&value->samples, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
