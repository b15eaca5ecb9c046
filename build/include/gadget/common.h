/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __COMMON_H
#define __COMMON_H

#include <vmlinux.h>

#include <gadget/types.h>
#include <gadget/mntns.h>

#include <bpf/bpf_helpers.h>

/* Describes the current task; what cannot be read keeps its former value. */
static __always_inline void gadget_process_populate(struct gadget_process *p)
{
	__u64 pid_tgid, gid_uid;
	struct task_struct *task, *parent;

	/* Each is stored before the next is asked for: what lives longer takes the caller's stack. */
	pid_tgid = bpf_get_current_pid_tgid();
	p->pid = pid_tgid >> 32;
	p->tid = (__u32)pid_tgid;
	gid_uid = bpf_get_current_uid_gid();
	p->creds.uid = (__u32)gid_uid;
	p->creds.gid = gid_uid >> 32;
	bpf_get_current_comm(p->comm, sizeof(p->comm));
	task = (struct task_struct *)bpf_get_current_task();
	p->mntns_id = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);

	parent = BPF_CORE_READ(task, real_parent);
	if (!parent)
		return;
	bpf_probe_read_kernel(p->parent.comm, sizeof(p->parent.comm), parent->comm);
	p->parent.pid = BPF_CORE_READ(parent, tgid);
	p->parent.tid = BPF_CORE_READ(parent, pid);
}

#endif
