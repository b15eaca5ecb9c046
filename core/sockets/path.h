/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef PATH_H
#define PATH_H

#include "owner.h"

/* As in gadget/filesystem.h: without bpf_loop the verifier walks 20 000 instructions. */
#define MAX_COMPONENTS 80

/* A path is written from the middle of the buffer towards its start. */
#define PATH_END PATH_MAX
#define PATH_MASK (PATH_END - 1)
/* For sizes up to PATH_MAX. */
#define SIZE_MASK (2 * PATH_MAX - 1)

struct walk {
	struct dentry *dentry;
	struct vfsmount *vfsmnt;
	struct mount *mount;
	struct scratch *scratch;
	__u32 pos;
};

/* One step towards the root; 1 ends the walk. */
static __noinline long step(__u64 index, void *of)
{
	struct walk *walk = of;
	struct dentry *dentry = walk->dentry;
	struct vfsmount *vfsmnt = walk->vfsmnt;
	struct mount *mount = walk->mount;
	struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
	char *path = walk->scratch->path;
	__u32 length, start;

	if (dentry == BPF_CORE_READ(vfsmnt, mnt_root)) {
		struct mount *up = BPF_CORE_READ(mount, mnt_parent);

		if (up == mount)
			return 1;
		walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		walk->mount = up;
		walk->vfsmnt = __builtin_preserve_access_index(&up->mnt);
		return 0;
	}
	if (dentry == parent)
		return 1;

	length = BPF_CORE_READ(dentry, d_name.len) & PATH_MASK;
	/* No branch may change the verifier's bounds of the position: see filesystem.h. */
	start = (walk->pos - length - 1) & PATH_MASK;
	if ((__s32)(walk->pos - start) <= 0)
		return 1;
	walk->pos = start;
	walk->dentry = parent;
	path[start] = '/';
	bpf_probe_read_kernel(&path[start + 1], length, BPF_CORE_READ(dentry, d_name.name));
	return 0;
}

/*
 * Writes the path at "of" (in kernel memory) to an optional member of the owner in a scratch value,
 * cut to the member's size. As in gadget/filesystem.h, the path begins at the root of the mount
 * tree, also in a chroot; an object without a path (memfd, anonymous inode) gives its name.
 */
__noinline int write_path(__u64 of, __u32 slot, __u32 member)
{
	const struct path *path = (const struct path *)of;
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct walk walk = {.pos = PATH_END};
	struct dentry *last;
	char *string;
	__u32 pos;

	if (!scratch)
		return 0;
	walk.dentry = BPF_CORE_READ(path, dentry);
	walk.vfsmnt = BPF_CORE_READ(path, mnt);
	walk.mount = (void *)walk.vfsmnt - bpf_core_field_offset(struct mount, mnt);
	walk.scratch = scratch;
	scratch->path[PATH_END] = '\0';

	/* Since Linux 5.17 (bpf_loop) a step is verified once, not once per iteration. */
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop)) {
		bpf_loop(MAX_COMPONENTS, step, &walk, 0);
	} else {
		for (int i = 0; i < MAX_COMPONENTS; i++)
			if (step(i, &walk))
				break;
	}

	pos = walk.pos;
	if (pos == PATH_END) {
		last = walk.dentry;
		pos = 0;
		bpf_probe_read_kernel_str(scratch->path, PATH_MAX,
					  BPF_CORE_READ(last, d_name.name));
	}
	string = &scratch->path[pos & PATH_MASK];
	/* The verifier knows these sizes; it would have to keep track of arguments. */
	if (member == CWD)
		bpf_probe_read_kernel_str(scratch->owner.optional, given.cwd & SIZE_MASK, string);
	else
		bpf_probe_read_kernel_str(&scratch->owner.optional[given.cwd & SIZE_MASK],
					  given.exepath & SIZE_MASK, string);
	return 0;
}

#endif
