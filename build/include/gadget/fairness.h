/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __FAIRNESS_H
#define __FAIRNESS_H

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include <gadget/kernel_read.h>

/*
 * A budget of events for each mount namespace, so that one container cannot fill a buffer that
 * all of them share. Off by default, and then no instruction of it runs: the verifier knows the
 * value and removes the code.
 *
 * A sample that is over budget is not even started. It is counted where its map's budget is kept,
 * in "gadget_budget_slots_<map>": a global array, so an object gets no map for it.
 *
 * An event is charged to the mount namespace of the current task. Where packets are processed, the
 * current task has nothing to do with them: programs of GADGET_TYPE_NETWORKING have no budget.
 * Define GADGET_NO_BUDGET in other programs whose events belong to another task.
 */

#if defined(__VMLINUX_H__) && !defined(GADGET_TYPE_NETWORKING) && !defined(GADGET_NO_BUDGET)

/* Set by user space: one event of a mount namespace in so many ns; 0: no budget. */
const volatile __u64 gadget_budget_interval_ns = 0;

/* What an idle namespace saves up: the events of so long a time. Not less than an interval. */
#define GADGET_BUDGET_BURST_NS 1000000000ULL

#define GADGET_BUDGET_SLOT_BITS 10
#define GADGET_BUDGET_SLOTS (1 << GADGET_BUDGET_SLOT_BITS)
#define GADGET_BUDGET_PROBES 8

struct gadget_budget_slot {
	__u64 mntns; /* 0: free */
	__u64 claimed; /* sum of the ids of all who took it: more than one only in a race */
	__u64 full_at; /* bpf_ktime_get_ns() when everything spent is back */
	__u64 throttled; /* events refused */
};

/* The slot of "mntns"; the last slot is shared by the namespaces that find no other. */
static __always_inline struct gadget_budget_slot *
__gadget_budget_slot_of(struct gadget_budget_slot *slots, __u64 mntns)
{
	/* Ids are consecutive: spread them (2^32 divided by the golden ratio). */
	__u32 first = ((__u32)mntns * 0x9e3779b1U) >> (32 - GADGET_BUDGET_SLOT_BITS);

	__GADGET_NOT_UNROLLED
	for (__u32 i = 0; i < GADGET_BUDGET_PROBES; i++) {
		struct gadget_budget_slot *slot = &slots[(first + i) & (GADGET_BUDGET_SLOTS - 1)];
		__u64 owner = *(volatile __u64 *)&slot->mntns;

		if (owner == mntns)
			return slot;
		if (owner)
			continue;
		/*
		 * No compare-and-swap: it needs another instruction set than objects are compiled
		 * for. The last of several wins; "claimed" tells user space that there were several.
		 */
		*(volatile __u64 *)&slot->mntns = mntns;
		__sync_fetch_and_add(&slot->claimed, mntns);
		return slot;
	}
	return &slots[GADGET_BUDGET_SLOTS];
}

/* May the current task send one more event? If not, that is counted. */
static __always_inline bool __gadget_budget_spend(struct gadget_budget_slot *slots)
{
	struct gadget_budget_slot *slot;
	__u64 mntns, now, full_at;

	if (!gadget_budget_interval_ns)
		return true;
	mntns = __GADGET_READ_U32(__gadget_current_mnt_ns(), ns.inum);
	/* An exiting task may have none any more. */
	if (!mntns)
		return true;

	slot = __gadget_budget_slot_of(slots, mntns);
	now = bpf_ktime_get_ns();
	full_at = *(volatile __u64 *)&slot->full_at;
	if (full_at < now)
		full_at = now;
	if (full_at + gadget_budget_interval_ns > now + GADGET_BUDGET_BURST_NS) {
		__sync_fetch_and_add(&slot->throttled, 1);
		return false;
	}
	/* Two CPUs may take one token at once: the limit is approximate, the counts are exact. */
	if (full_at == now)
		*(volatile __u64 *)&slot->full_at = now + gadget_budget_interval_ns;
	else
		__sync_fetch_and_add(&slot->full_at, gadget_budget_interval_ns);
	return true;
}

#define __GADGET_BUDGET(name)                                                                    \
	struct gadget_budget_slot gadget_budget_slots_##name[GADGET_BUDGET_SLOTS + 1] = {};      \
	static __always_inline __attribute__((unused))                                           \
	bool name##_within_budget(void)                                                          \
	{                                                                                        \
		return __gadget_budget_spend(gadget_budget_slots_##name);                        \
	}

#else

#define __GADGET_BUDGET(name)                                                                    \
	static __always_inline __attribute__((unused))                                           \
	int name##_within_budget(void)                                                           \
	{                                                                                        \
		return 1;                                                                        \
	}

#endif

#endif
