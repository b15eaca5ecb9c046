/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef FILTER_H
#define FILTER_H

#include <bpf/bpf_helpers.h>

#include <gadget/macros.h>
#include <gadget/types.h>
#include <gadget/mntns_filter.h>
#ifndef GADGET_TYPE_NETWORKING
#include <gadget/mntns.h>
#endif

#define GADGET_INVALID_ID ((gadget_uid)-1)

const volatile gadget_pid targ_pid = 0;
GADGET_PARAM(targ_pid);

const volatile gadget_tid targ_tid = 0;
GADGET_PARAM(targ_tid);

const volatile gadget_uid targ_uid = GADGET_INVALID_ID;
GADGET_PARAM(targ_uid);

const volatile gadget_gid targ_gid = GADGET_INVALID_ID;
GADGET_PARAM(targ_gid);

const volatile gadget_comm targ_comm[TASK_COMM_LEN] = {};
GADGET_PARAM(targ_comm);

static __always_inline bool gadget_should_discard_pid(gadget_pid pid)
{
	return targ_pid && targ_pid != pid;
}

static __always_inline bool gadget_should_discard_tid(gadget_tid tid)
{
	return targ_tid && targ_tid != tid;
}

static __always_inline bool gadget_should_discard_uid(gadget_uid uid)
{
	return targ_uid != GADGET_INVALID_ID && targ_uid != uid;
}

static __always_inline bool gadget_should_discard_gid(gadget_gid gid)
{
	return targ_gid != GADGET_INVALID_ID && targ_gid != gid;
}

/* All bytes count, also those behind the terminating NUL. */
static __always_inline bool gadget_should_discard_comm(const gadget_comm comm[TASK_COMM_LEN])
{
	if (!targ_comm[0])
		return false;
#pragma unroll
	for (int i = 0; i < TASK_COMM_LEN; i++) {
		if (targ_comm[i] != comm[i])
			return true;
	}
	return false;
}

static __always_inline bool gadget_should_discard_data(gadget_mntns_id mntns_id, gadget_pid pid,
						       gadget_tid tid,
						       const gadget_comm comm[TASK_COMM_LEN],
						       gadget_uid uid, gadget_gid gid)
{
	return gadget_should_discard_mntns_id(mntns_id) || gadget_should_discard_pid(pid) ||
	       gadget_should_discard_tid(tid) || gadget_should_discard_uid(uid) ||
	       gadget_should_discard_gid(gid) || gadget_should_discard_comm(comm);
}

#ifndef GADGET_TYPE_NETWORKING
/* Is the current task filtered out? Asks the kernel only for what an active filter compares. */
static __always_inline bool gadget_should_discard_data_current(void)
{
	if (gadget_filter_by_mntns &&
	    gadget_should_discard_mntns_id(gadget_get_current_mntns_id()))
		return true;

	if (targ_pid || targ_tid) {
		__u64 pid_tgid = bpf_get_current_pid_tgid();

		if (gadget_should_discard_pid(pid_tgid >> 32) ||
		    gadget_should_discard_tid((__u32)pid_tgid))
			return true;
	}

	if (targ_uid != GADGET_INVALID_ID || targ_gid != GADGET_INVALID_ID) {
		__u64 gid_uid = bpf_get_current_uid_gid();

		if (gadget_should_discard_uid((__u32)gid_uid) ||
		    gadget_should_discard_gid(gid_uid >> 32))
			return true;
	}

	if (targ_comm[0]) {
		/* Not every kernel fills what is behind the name (Linux 6.1). */
		gadget_comm comm[TASK_COMM_LEN] = {};

		bpf_get_current_comm(comm, sizeof(comm));
		if (gadget_should_discard_comm(comm))
			return true;
	}

	return false;
}
#endif

/*
 * Is the owner of a socket filtered out? A packet without a known owner passes only while no filter
 * is active.
 */
static __always_inline bool
gadget_should_discard_data_by_skb(const struct gadget_socket_value *owner)
{
	if (!owner)
		return gadget_filter_by_mntns || targ_pid || targ_tid ||
		       targ_uid != GADGET_INVALID_ID || targ_gid != GADGET_INVALID_ID ||
		       targ_comm[0];

	return gadget_should_discard_data(owner->mntns, owner->pid_tgid >> 32,
					  (__u32)owner->pid_tgid, owner->task,
					  (__u32)owner->uid_gid, owner->uid_gid >> 32);
}

#endif
