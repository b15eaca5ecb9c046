// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One element an open file of each process: iterators over two things at once. */
#include <vmlinux.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include <gadget/common.h>
#include <gadget/filesystem.h>
#include <gadget/filter.h>
#include <gadget/macros.h>
#include <gadget/types.h>

/* Programs have 512 bytes of stack. */
#define SHOWN 256

struct file_entry {
	gadget_mntns_id mntns_id;
	__u64 inode;
	gadget_pid pid;
	__u32 fd;
	gadget_comm comm[TASK_COMM_LEN];
	char path[SHOWN];
};

GADGET_ITER(files, file_entry, on_file);

SEC("iter/task_file")
int on_file(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct file_entry entry = {};
	char *path;

	/* Threads share the files of their group's leader. */
	if (!task || !file || task->tgid != task->pid)
		return 0;
	entry.mntns_id = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	entry.pid = task->tgid;
	bpf_probe_read_kernel_str(entry.comm, sizeof(entry.comm), task->comm);
	if (gadget_should_discard_data(entry.mntns_id, entry.pid, task->pid, entry.comm,
				       BPF_CORE_READ(task, cred, uid.val),
				       BPF_CORE_READ(task, cred, gid.val)))
		return 0;
	entry.fd = ctx->fd;
	entry.inode = BPF_CORE_READ(file, f_inode, i_ino);
	path = get_path_str(__builtin_preserve_access_index(&file->f_path));
	if (path)
		bpf_probe_read_kernel_str(entry.path, sizeof(entry.path), path);
	bpf_seq_write(ctx->meta->seq, &entry, sizeof(entry));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
