/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef PATH_H
#define PATH_H

#include "owner.h"

#define MAX_COMPONENTS 64

/* A path is written from the middle of the buffer towards its start. */
#define PATH_END PATH_MAX
#define PATH_MASK (PATH_END - 1)
/* For sizes up to PATH_MAX. */
#define SIZE_MASK (2 * PATH_MAX - 1)

/*
 * Writes the path at "of" (in kernel memory) to an optional member of the owner in a scratch, cut to
 * its size. Up to the root of the mount tree, as gadget/filesystem.h has it: a chroot is not taken
 * into account, what has no place in the tree gives its own name.
 */
__noinline int write_path(__u64 of, __u32 slot, __u32 member)
{
	const struct path *path = (const struct path *)of;
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, &slot);
	struct dentry *dentry = BPF_CORE_READ(path, dentry);
	struct vfsmount *vfsmnt = BPF_CORE_READ(path, mnt);
	struct mount *mount = (void *)vfsmnt - bpf_core_field_offset(struct mount, mnt);
	__u32 pos = PATH_END;
	char *string;

	if (!scratch)
		return 0;
	scratch->path[PATH_END] = '\0';

	for (int i = 0; i < MAX_COMPONENTS; i++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
		__u32 length, start;

		if (dentry == BPF_CORE_READ(vfsmnt, mnt_root)) {
			struct mount *up = BPF_CORE_READ(mount, mnt_parent);

			if (up == mount)
				break;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = up;
			vfsmnt = __builtin_preserve_access_index(&mount->mnt);
			continue;
		}
		if (dentry == parent)
			break;

		length = BPF_CORE_READ(dentry, d_name.len) & PATH_MASK;
		/* No branch may narrow what the verifier knows of the position: filesystem.h. */
		start = (pos - length - 1) & PATH_MASK;
		if ((__s32)(pos - start) <= 0)
			break;
		pos = start;
		scratch->path[pos] = '/';
		bpf_probe_read_kernel(&scratch->path[pos + 1], length,
				      BPF_CORE_READ(dentry, d_name.name));
		dentry = parent;
	}

	if (pos == PATH_END) {
		pos = 0;
		bpf_probe_read_kernel_str(scratch->path, PATH_MAX,
					  BPF_CORE_READ(dentry, d_name.name));
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
