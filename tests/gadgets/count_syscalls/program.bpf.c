// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Calls by process and number: the family of maps that are emptied at an interval. */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include <gadget/common.h>
#include <gadget/filter.h>
#include <gadget/macros.h>
#include <gadget/maps.bpf.h>
#include <gadget/types.h>

#define MAX_COUNTS 16384

struct call_key {
	gadget_syscall syscall_raw;
	gadget_mntns_id mntns_id;
	gadget_pid pid;
	gadget_comm comm[TASK_COMM_LEN];
};

struct call_value {
	gadget_counter__u64 calls;
	gadget_bytes asked_raw;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_COUNTS);
	__type(key, struct call_key);
	__type(value, struct call_value);
} counts SEC(".maps");

GADGET_MAPITER(calls, counts);

SEC("raw_tracepoint/sys_enter")
int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct call_value none = {}, *value;
	struct call_key key = {};

	if (gadget_should_discard_data_current())
		return 0;
	key.syscall_raw = ctx->args[1];
	key.mntns_id = gadget_get_current_mntns_id();
	key.pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	value = bpf_map_lookup_or_try_init(&counts, &key, &none);
	if (!value)
		return 0;
	__sync_fetch_and_add(&value->calls, 1);
	__sync_fetch_and_add(&value->asked_raw, PT_REGS_PARM3_CORE_SYSCALL(regs));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
