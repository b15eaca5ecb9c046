/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __COMMON_FILESYSTEM_H__
#define __COMMON_FILESYSTEM_H__

/* Include vmlinux.h and the bpf headers before this one. */

#define GADGET_PATH_MAX 512 /* of a path in an event */
#ifndef PATH_MAX
#define PATH_MAX 4096
#endif

#define MAX_PERCPU_BUFSIZE (1 << 15)
#define MAX_PATH_COMPONENTS 80
#define MAX_BUFFERS 1
#define STRING_BUF_IDX 0

typedef struct simple_buf {
	__u8 buf[MAX_PERCPU_BUFSIZE];
} buf_t;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_BUFFERS);
	__type(key, __u32);
	__type(value, buf_t);
} bufs SEC(".maps");

static __always_inline buf_t *get_buf(int idx)
{
	__u32 key = idx;

	return bpf_map_lookup_elem(&bufs, &key);
}

static __always_inline struct dentry *get_mnt_root_ptr_from_vfsmnt(struct vfsmount *vfsmnt)
{
	return BPF_CORE_READ(vfsmnt, mnt_root);
}

static __always_inline struct dentry *get_d_parent_ptr_from_dentry(struct dentry *dentry)
{
	return BPF_CORE_READ(dentry, d_parent);
}

static __always_inline struct qstr get_d_name_from_dentry(struct dentry *dentry)
{
	return BPF_CORE_READ(dentry, d_name);
}

/* The struct mount around its member mnt. */
static __always_inline struct mount *real_mount(struct vfsmount *vfsmnt)
{
	return (void *)vfsmnt - bpf_core_field_offset(struct mount, mnt);
}

/* A path is written from the middle of the buffer towards its start. */
#define __GADGET_PATH_END (MAX_PERCPU_BUFSIZE / 2)
#define __GADGET_PATH_MASK (__GADGET_PATH_END - 1)

/*
 * The path of the dentry and mount at "path" (in kernel memory), up to the root of the mount tree:
 * a chroot is not taken into account. It lives in the buffer of this CPU until the next call. An
 * object without a place in the tree (memfd, anonymous inode) gives its own name. A path of more
 * than MAX_PATH_COMPONENTS loses its first ones. NULL only when there is no buffer.
 */
static __always_inline void *get_path_str(const struct path *path)
{
	struct dentry *dentry = BPF_CORE_READ(path, dentry);
	struct vfsmount *vfsmnt = BPF_CORE_READ(path, mnt);
	struct mount *mount = real_mount(vfsmnt);
	__u32 pos = __GADGET_PATH_END;
	buf_t *string = get_buf(STRING_BUF_IDX);

	if (!string)
		return NULL;

	string->buf[__GADGET_PATH_END] = '\0';

	for (int i = 0; i < MAX_PATH_COMPONENTS; i++) {
		struct dentry *parent = get_d_parent_ptr_from_dentry(dentry);
		struct dentry *root = get_mnt_root_ptr_from_vfsmnt(vfsmnt);
		struct qstr name;
		__u32 len, start;

		if (dentry == root) {
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

		name = get_d_name_from_dentry(dentry);
		len = name.len & (PATH_MAX - 1);
		/*
		 * No branch may narrow what the verifier knows of the position, or it walks through
		 * the loop once for every mix of names and mount points.
		 */
		start = (pos - len - 1) & __GADGET_PATH_MASK;
		if ((__s32)(pos - start) <= 0)
			break;
		pos = start;
		string->buf[pos] = '/';
		bpf_probe_read_kernel(&string->buf[pos + 1], len, name.name);
		dentry = parent;
	}

	if (pos == __GADGET_PATH_END) {
		struct qstr name = get_d_name_from_dentry(dentry);

		bpf_probe_read_kernel_str(string->buf, PATH_MAX, name.name);
		return string->buf;
	}

	return &string->buf[pos & __GADGET_PATH_MASK];
}

/* The open file "fd" of the current process, or NULL. */
static __always_inline struct file *get_struct_file_for_fd(int fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fdtable *fdt = BPF_CORE_READ(task, files, fdt);
	struct file **slots, *file = NULL;

	if (!fdt || fd < 0 || (unsigned int)fd >= BPF_CORE_READ(fdt, max_fds))
		return NULL;

	slots = BPF_CORE_READ(fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), &slots[fd]);
	return file;
}

/* Copies the path of the open file "fd": bytes with the final NUL, or negative. */
static __always_inline long read_full_path_of_open_file_fd(int fd, char *buf, __u64 len)
{
	struct file *file = get_struct_file_for_fd(fd);
	char *path;

	if (!file)
		return -1;
	path = get_path_str(__builtin_preserve_access_index(&file->f_path));
	if (!path)
		return -1;
	return bpf_probe_read_kernel_str(buf, len, path);
}

#endif
