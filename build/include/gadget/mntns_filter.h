/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef MNTNS_FILTER_H
#define MNTNS_FILTER_H

#include <gadget/loss_table.h>
#include <gadget/types.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* Set by user space when only some containers are wanted; the map then holds theirs. */
const volatile bool gadget_filter_by_mntns = false;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, gadget_mntns_id);
	__type(value, __u32);
} gadget_mntns_filter_map SEC(".maps");

static __always_inline bool gadget_should_discard_mntns_id(gadget_mntns_id mntns_id)
{
	return gadget_filter_by_mntns && !bpf_map_lookup_elem(&gadget_mntns_filter_map, &mntns_id);
}

#ifdef __GADGET_LOSSES_BY_MNTNS

static __always_inline void __gadget_count_lost_by_mntns(struct gadget_loss_slot *slots)
{
	struct mnt_namespace *ns;

	if (!gadget_filter_by_mntns)
		return;
	ns = __gadget_current_mnt_ns();
	/* An exiting task may have none any more. */
	if (ns)
		__gadget_count_lost_in(slots, ns);
}

#undef __GADGET_LOSS_TABLE
#define __GADGET_LOSS_TABLE(name)                                                                \
	struct gadget_loss_slot gadget_loss_table_##name[2 * GADGET_LOSS_SLOTS + 1] = {};        \
	static __always_inline __attribute__((unused))                                           \
	void name##_count_lost_by_mntns(void)                                                    \
	{                                                                                        \
		__gadget_count_lost_by_mntns(gadget_loss_table_##name);                          \
	}

#endif

#endif
