/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __LOSS_TABLE_H
#define __LOSS_TABLE_H

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include <gadget/kernel_read.h>

/*
 * What a buffer lost of each mount namespace, so that user space can tell the losses of containers
 * that are selected from those of all others: a namespace passes the filter until user space has
 * found out which container it belongs to.
 *
 * The table of a map is the global array "gadget_loss_table_<map>": no map is looked up. These
 * losses are also counted as all others are (buffer.h), after the entry in the table is made.
 *
 * As with budgets (fairness.h), a loss is ascribed to the mount namespace of the current task, and
 * programs of GADGET_TYPE_NETWORKING, or with GADGET_NO_BUDGET, have no table.
 */

#if defined(__VMLINUX_H__) && !defined(GADGET_TYPE_NETWORKING) && !defined(GADGET_NO_BUDGET)

#define GADGET_LOSS_SLOT_BITS 9
/* Namespaces whose losses are counted apart: so many of root's, and as many of users. */
#define GADGET_LOSS_SLOTS (1 << GADGET_LOSS_SLOT_BITS)
#define GADGET_LOSS_PROBES 8

#define __GADGET_LOSSES_BY_MNTNS

struct gadget_loss_slot {
	__u64 generation; /* of the namespace, 0: free */
	/*
	 * The generations of all that took the slot added up, and in the highest byte how many they
	 * were: more than one only in a race.
	 */
	__u64 claimed;
	__u64 lost; /* events */
	__u64 unused; /* 0 */
};

/* The serial number of a mount namespace: "seq", or since Linux 6.18 "ns_id". */
struct mnt_namespace___seq {
	__u64 seq;
} __attribute__((preserve_access_index));

struct ns_common___id {
	__u64 ns_id;
} __attribute__((preserve_access_index));

/* A number that no other mount namespace has had; 0: not known. */
static __always_inline __u64 __gadget_generation(struct mnt_namespace *ns)
{
	struct mnt_namespace___seq *numbered = (void *)ns;
	struct ns_common___id *common = (void *)__builtin_preserve_access_index(&ns->ns);

	if (bpf_core_field_exists(numbered->seq))
		return __GADGET_READ_U64(numbered, seq) + 1;
	if (bpf_core_field_exists(common->ns_id))
		return __GADGET_READ_U64(common, ns_id) + 1;
	return 0;
}

/* The slot of a namespace, NULL when there is none for it. */
static __always_inline struct gadget_loss_slot *
__gadget_loss_slot_of(struct gadget_loss_slot *slots, __u64 generation, bool of_user)
{
	/* Generations are consecutive: spread them (2^32 divided by the golden ratio). */
	__u32 first = ((__u32)generation * 0x9e3779b1U) >> (32 - GADGET_LOSS_SLOT_BITS);

	if (!generation)
		return NULL;
	__GADGET_NOT_UNROLLED
	for (__u32 i = 0; i < GADGET_LOSS_PROBES; i++) {
		__u32 at = (first + i) & (GADGET_LOSS_SLOTS - 1);
		struct gadget_loss_slot *slot = &slots[of_user ? at + GADGET_LOSS_SLOTS : at];
		__u64 owner = *(volatile __u64 *)&slot->generation;

		if (owner == generation)
			return slot;
		if (owner)
			continue;
		/* No compare-and-swap, as in fairness.h: the last of several wins. */
		*(volatile __u64 *)&slot->generation = generation;
		__sync_fetch_and_add(&slot->claimed, (1ULL << 56) + generation);
		return slot;
	}
	return NULL;
}

static __always_inline void __gadget_count_lost_in(struct gadget_loss_slot *slots,
						   struct mnt_namespace *ns)
{
	struct user_namespace *owner = (void *)__GADGET_READ_U64(ns, user_ns);
	struct gadget_loss_slot *slot;

	slot = __gadget_loss_slot_of(slots, __gadget_generation(ns),
				     __GADGET_READ_U32(owner, level) > 0);
	/* The last slot is shared by the namespaces that find no other. */
	__sync_fetch_and_add(slot ? &slot->lost : &slots[2 * GADGET_LOSS_SLOTS].lost, 1);
}

#endif

#endif
