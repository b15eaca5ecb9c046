// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One element a thread group leader: the family of iterator programs. */
#include <vmlinux.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include <gadget/common.h>
#include <gadget/filter.h>
#include <gadget/macros.h>
#include <gadget/types.h>

struct task_entry {
	gadget_mntns_id mntns_id;
	gadget_comm comm[TASK_COMM_LEN];
	gadget_pid pid;
	gadget_tid tid;
	struct gadget_creds creds;
	gadget_ppid ppid;
};

const volatile bool threads = false;
GADGET_PARAM(threads);

GADGET_ITER(tasks, task_entry, on_task);

SEC("iter/task")
int on_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_entry entry = {};

	if (!task)
		return 0;
	if (!threads && task->tgid != task->pid)
		return 0;
	entry.mntns_id = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	entry.pid = task->tgid;
	entry.tid = task->pid;
	entry.ppid = BPF_CORE_READ(task, real_parent, tgid);
	entry.creds.uid = BPF_CORE_READ(task, cred, uid.val);
	entry.creds.gid = BPF_CORE_READ(task, cred, gid.val);
	bpf_probe_read_kernel_str(entry.comm, sizeof(entry.comm), task->comm);
	if (gadget_should_discard_data(entry.mntns_id, entry.pid, entry.tid, entry.comm,
				       entry.creds.uid, entry.creds.gid))
		return 0;
	bpf_seq_write(ctx->meta->seq, &entry, sizeof(entry));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
