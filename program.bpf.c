// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * trace_exec: one event for each execve() and execveat().
 *
 * The entry of the system call opens an event in "execs"; security_bprm_check, where the kernel has
 * it, adds the file as it was found; the event leaves when sched_process_exec says that the new
 * program is in place, or at the exit of a call that failed.
 */

#include <vmlinux.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define GADGET_NO_BUF_RESERVE
#include <gadget/buffer.h>
#include <gadget/common.h>
#include <gadget/core_fixes.bpf.h>
#include <gadget/filesystem.h>
#include <gadget/filter.h>
#include <gadget/macros.h>
#include <gadget/types.h>

#define ENOEXEC 8
#define MINORBITS 20
#define OVERLAYFS_SUPER_MAGIC 0x794c7630

#define ARGS_MAX 5120
/* U+00A0 in UTF-8: parts two arguments, because an argument may well hold a plain space. */
#define SEPARATOR_0 '\xc2'
#define SEPARATOR_1 '\xa0'
#define SEPARATOR_LEN 2
/* Bounds the loop for the verifier: so many arguments of three bytes fill the buffer. */
#define ARGS_MAX_COUNT 1024

#define UNSET_ID ((__u32)-1) /* of a login user or session: the kernel's own value */

struct event {
	gadget_timestamp timestamp_raw;
	struct gadget_process proc;
	gadget_uid loginuid;
	__u32 sessionid;
	gadget_errno error_raw;
	int args_count;
	int tty;
	unsigned int tty_major;
	unsigned int tty_minor;
	bool from_rootfs;
	bool file_from_rootfs;
	bool upper_layer;
	bool fupper_layer;
	bool pupper_layer;
	unsigned int args_size; /* bytes of args, with the final NUL */
	char cwd[GADGET_PATH_MAX];
	char file[GADGET_PATH_MAX];
	unsigned int dev_major;
	unsigned int dev_minor;
	unsigned long inode;
	__u64 ctime;
	__u64 fctime;
	__u64 pctime;
	char exepath[GADGET_PATH_MAX];
	char parent_exepath[GADGET_PATH_MAX];
	/* Last: only the used part is handed out. Until then its start holds the user's argv. */
	char args[ARGS_MAX];
};

/* The part of struct task_struct that needs CONFIG_AUDIT. */
struct task_struct___audit {
	kuid_t loginuid;
	unsigned int sessionid;
} __attribute__((preserve_access_index));

const volatile bool ignore_failed = true;
GADGET_PARAM(ignore_failed);

const volatile bool paths = false;
GADGET_PARAM(paths);

static const struct event empty_event = {};

GADGET_TRACER_MAP_GLOBAL_LOSS(events, 1024 * 256);
GADGET_TRACER(exec, events, event);

/* Calls under way, by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, pid_t);
	__type(value, struct event);
} execs SEC(".maps");

/* Threads whose file has been seen: the next file of the same call is an interpreter. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, pid_t);
	__type(value, u8);
} security_bprm_hit_map SEC(".maps");

static __always_inline void read_path(char *to, const struct path *path)
{
	char *name = get_path_str(path);

	if (name)
		bpf_probe_read_kernel_str(to, GADGET_PATH_MAX, name);
}

/*
 * Is the file below the root mount of the task? Mounts are told apart by filesystem and mounted
 * directory, so that copies of a mount in other namespaces are the same.
 */
static __always_inline bool is_from_rootfs(struct task_struct *task, struct file *file)
{
	struct vfsmount *root = BPF_CORE_READ(task, fs, root.mnt);
	struct vfsmount *mnt = BPF_CORE_READ(file, f_path.mnt);

	return BPF_CORE_READ(root, mnt_sb) == BPF_CORE_READ(mnt, mnt_sb) &&
	       BPF_CORE_READ(root, mnt_root) == BPF_CORE_READ(mnt, mnt_root);
}

/*
 * Is the file in the upper layer of an overlay? The kernel's struct ovl_inode is often in a module,
 * out of reach of CO-RE; its pointer to the upper dentry follows the inode that it embeds.
 */
static __always_inline bool is_upper_layer(struct inode *inode)
{
	struct dentry *upper = NULL;

	if (BPF_CORE_READ(inode, i_sb, s_magic) != OVERLAYFS_SUPER_MAGIC)
		return false;
	bpf_probe_read_kernel(&upper, sizeof(upper),
			      (void *)inode + bpf_core_type_size(struct inode));
	return upper != NULL;
}

static __always_inline void read_tty(struct event *event, struct task_struct *task)
{
	struct tty_struct *tty = BPF_CORE_READ(task, signal, tty);
	struct tty_driver *driver;
	__u32 dev;

	if (!tty)
		return;
	driver = BPF_CORE_READ(tty, driver);
	event->tty = BPF_CORE_READ(tty, index);
	dev = (BPF_CORE_READ(driver, major) << MINORBITS) + BPF_CORE_READ(driver, minor_start) +
	      event->tty;
	event->tty_major = dev >> MINORBITS;
	event->tty_minor = dev & ((1U << MINORBITS) - 1);
}

static __always_inline void read_login(struct event *event, void *task)
{
	struct task_struct___audit *audited = task;

	event->loginuid = UNSET_ID;
	event->sessionid = UNSET_ID;
	if (bpf_core_field_exists(audited->loginuid))
		event->loginuid = BPF_CORE_READ(audited, loginuid.val);
	if (bpf_core_field_exists(audited->sessionid))
		event->sessionid = BPF_CORE_READ(audited, sessionid);
}

/*
 * Arguments are joined in the buffer of this CPU, which has room for one more of full length behind
 * the limit: the verifier does not see that position and length together stay within it.
 */
#define JOINED_MASK 0x3fff
_Static_assert(2 * ARGS_MAX <= JOINED_MASK && JOINED_MASK + SEPARATOR_LEN <= MAX_PERCPU_BUFSIZE,
	       "no room to join arguments");

struct joined {
	__u8 *to;
	__u64 pos; /* of the next argument, behind a separator */
	int count;
};

/* Appends one string of user memory; its length with the NUL, or not positive. */
static __always_inline long append_arg(struct joined *joined, const char *arg)
{
	__u64 pos = joined->pos, empty;
	long len;

	barrier_var(pos); /* one register for the check and the use, or verifiers lose track */
	if (pos > ARGS_MAX - sizeof("x"))
		return 0;
	len = bpf_probe_read_user_str(&joined->to[pos], ARGS_MAX, arg);
	if (len < 0)
		return len;
	/*
	 * Kernels before 6.13 say 0 of an empty string, its NUL not counted. Without a branch:
	 * verifiers follow both ways of every argument.
	 */
	empty = (__u64)(len - 1) >> 63;
	barrier_var(empty);
	pos = (pos + len - 1 + empty) & JOINED_MASK;
	barrier_var(pos);
	joined->to[pos] = SEPARATOR_0;
	joined->to[pos + 1] = SEPARATOR_1;
	joined->pos = pos + SEPARATOR_LEN;
	joined->count++;
	return len + empty;
}

/* The arguments of the program in place, as the kernel laid them out on its stack. */
static __always_inline void join_args_of_mm(struct joined *joined, struct task_struct *task)
{
	const char *arg = (const char *)BPF_CORE_READ(task, mm, arg_start);
	const char *end = (const char *)BPF_CORE_READ(task, mm, arg_end);

	for (int i = 0; i < ARGS_MAX_COUNT && arg < end; i++) {
		long len = append_arg(joined, arg);

		if (len <= 0)
			break;
		arg += len;
	}
}

/* The arguments of a call that failed: its memory is still that of the caller. */
static __always_inline void join_args_of_call(struct joined *joined, const char *const *argv)
{
	for (int i = 0; i < ARGS_MAX_COUNT; i++) {
		const char *arg = NULL;

		if (bpf_probe_read_user(&arg, sizeof(arg), &argv[i]) || !arg)
			break;
		if (append_arg(joined, arg) <= 0)
			break;
	}
}

/* Only now: the kernel has just touched the pages of the arguments, so that they can be read. */
static __always_inline void read_args(struct event *event, struct task_struct *task, bool succeeded)
{
	buf_t *scratch = get_buf(STRING_BUF_IDX);
	struct joined joined = {};
	const char *const *argv;
	__u64 size;

	__builtin_memcpy(&argv, event->args, sizeof(argv));
	__builtin_memset(event->args, 0, sizeof(argv));
	if (!scratch)
		return;

	joined.to = scratch->buf;
	if (succeeded)
		join_args_of_mm(&joined, task);
	else
		join_args_of_call(&joined, argv);

	if (!joined.count)
		return;

	size = joined.pos - SEPARATOR_LEN + 1; /* a NUL in place of the last separator */
	barrier_var(size);
	if (size > ARGS_MAX)
		size = ARGS_MAX;
	event->args_count = joined.count;
	event->args_size = size;
	bpf_probe_read_kernel(event->args, size, scratch->buf);
	if (size > 0 && size <= ARGS_MAX)
		event->args[size - 1] = '\0';
}

static __always_inline int enter_exec(const char *const *argv)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	pid_t tid = (pid_t)bpf_get_current_pid_tgid();
	struct event *event;

	if (gadget_should_discard_data_current())
		return 0;

	/* BPF_ANY: what a thread of the same id left behind is stale */
	if (bpf_map_update_elem(&execs, &tid, &empty_event, BPF_ANY)) {
		gadget_count_lost_sample(&events);
		return 0;
	}
	event = bpf_map_lookup_elem(&execs, &tid);
	if (!event)
		return 0;

	event->timestamp_raw = bpf_ktime_get_boot_ns();
	__builtin_memcpy(event->args, &argv, sizeof(argv));
	read_login(event, task);
	read_tty(event, task);
	if (paths) {
		struct fs_struct *fs = BPF_CORE_READ(task, fs);

		read_path(event->cwd, &fs->pwd);
	}
	return 0;
}

/* What is known of the program in place: the new one, or that of the caller when a call failed. */
static __always_inline void read_programs(struct event *event, struct task_struct *task,
					  bool succeeded)
{
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);
	struct file *parent_exe = BPF_CORE_READ(task, real_parent, mm, exe_file);

	if (succeeded) {
		struct inode *inode = BPF_CORE_READ(exe, f_inode);

		event->from_rootfs = is_from_rootfs(task, exe);
		event->upper_layer = is_upper_layer(inode);
		event->ctime = gadget_get_ctime_nanosec_from_inode(inode);
	}
	/* a kernel thread that starts a helper has no executable */
	if (succeeded && parent_exe) {
		struct inode *inode = BPF_CORE_READ(parent_exe, f_inode);

		event->pupper_layer = is_upper_layer(inode);
		event->pctime = gadget_get_ctime_nanosec_from_inode(inode);
	}
	if (paths && exe)
		read_path(event->exepath, &exe->f_path);
	if (paths && parent_exe)
		read_path(event->parent_exepath, &parent_exe->f_path);
}

/* Ends the call of thread "tid"; "error" is 0 for the program that has just been put in place. */
static __always_inline int finish_exec(void *ctx, pid_t tid, int error, bool wanted)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct event *event = bpf_map_lookup_elem(&execs, &tid);

	if (!event)
		return 0;

	if (wanted) {
		__u32 args_size;

		event->error_raw = error;
		gadget_process_populate(&event->proc);
		read_args(event, task, !error);
		read_programs(event, task, !error);

		args_size = event->args_size;
		if (args_size > ARGS_MAX)
			args_size = ARGS_MAX;
		gadget_output_buf(ctx, &events, event,
				  __builtin_offsetof(struct event, args) + args_size);
	}

	bpf_map_delete_elem(&execs, &tid);
	bpf_map_delete_elem(&security_bprm_hit_map, &tid);
	return 0;
}

/* A call that returns 0 here put nothing in place (AT_EXECVE_CHECK): sched_process_exec came first. */
static __always_inline int exit_exec(struct trace_event_raw_sys_exit *ctx)
{
	pid_t tid = (pid_t)bpf_get_current_pid_tgid();
	int error = -(int)ctx->ret;

	return finish_exec(ctx, tid, error, error && !ignore_failed);
}

SEC("tracepoint/syscalls/sys_enter_execve")
int ig_execve_e(struct trace_event_raw_sys_enter *ctx)
{
	return enter_exec((const char *const *)ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_enter_execveat")
int ig_execveat_e(struct trace_event_raw_sys_enter *ctx)
{
	return enter_exec((const char *const *)ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_exit_execve")
int ig_execve_x(struct trace_event_raw_sys_exit *ctx)
{
	return exit_exec(ctx);
}

SEC("tracepoint/syscalls/sys_exit_execveat")
int ig_execveat_x(struct trace_event_raw_sys_exit *ctx)
{
	return exit_exec(ctx);
}

/* A thread that is not its group's leader takes over the leader's id while it executes. */
SEC("tracepoint/sched/sched_process_exec")
int ig_sched_exec(struct trace_event_raw_sched_process_exec *ctx)
{
	return finish_exec(ctx, ctx->old_pid, 0, true);
}

/* Called for the file of the call, then for its interpreter, the interpreter's interpreter, ... */
SEC("kprobe/security_bprm_check")
int BPF_KPROBE(security_bprm_check, struct linux_binprm *bprm)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	pid_t tid = (pid_t)bpf_get_current_pid_tgid();
	struct event *event = bpf_map_lookup_elem(&execs, &tid);
	struct inode *inode;
	struct file *file;
	u8 hit = 1;
	__u32 dev;

	if (!event)
		return 0;

	file = BPF_CORE_READ(bprm, file);
	event->from_rootfs = is_from_rootfs(task, file);

	if (bpf_map_lookup_elem(&security_bprm_hit_map, &tid))
		return 0;
	bpf_map_update_elem(&security_bprm_hit_map, &tid, &hit, BPF_ANY);

	inode = BPF_CORE_READ(file, f_inode);
	event->file_from_rootfs = event->from_rootfs;
	event->fupper_layer = is_upper_layer(inode);
	event->fctime = gadget_get_ctime_nanosec_from_inode(inode);

	if (paths) {
		dev = BPF_CORE_READ(inode, i_sb, s_dev);
		event->dev_major = dev >> MINORBITS;
		event->dev_minor = dev & ((1U << MINORBITS) - 1);
		event->inode = BPF_CORE_READ(inode, i_ino);
		read_path(event->file, &file->f_path);
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
