// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Files opened, one event an open or openat: small on purpose, and with the fields that a user of
 * such a gadget expects, so that its cost can be compared between runners.
 */
#include <vmlinux.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include <gadget/buffer.h>
#include <gadget/common.h>
#include <gadget/filesystem.h>
#include <gadget/filter.h>
#include <gadget/macros.h>
#include <gadget/types.h>

#define NAME_MAX 255

/* What the entry of the system call leaves for its exit. */
struct pending {
	const char *fname;
	__u32 flags;
	__u32 mode;
};

struct event {
	gadget_timestamp timestamp_raw;
	struct gadget_process proc;
	gadget_errno error_raw;
	__u32 fd;
	gadget_file_flags flags_raw;
	gadget_file_mode mode_raw;
	char fname[NAME_MAX];
	char fpath[GADGET_PATH_MAX];
};

const volatile bool failed = false;
GADGET_PARAM(failed);

const volatile bool paths = false;
GADGET_PARAM(paths);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, struct pending);
} start SEC(".maps");

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(open, events, event);

static __always_inline int enter(const char *fname, int flags, int mode)
{
	struct pending pending = {.fname = fname, .flags = flags, .mode = mode};
	__u32 tid = (__u32)bpf_get_current_pid_tgid();

	if (gadget_should_discard_data_current())
		return 0;
	bpf_map_update_elem(&start, &tid, &pending, BPF_ANY);
	return 0;
}

static __always_inline int leave(struct syscall_trace_exit *ctx)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct pending *pending = bpf_map_lookup_elem(&start, &tid);
	struct event *event;
	long ret = ctx->ret;

	if (!pending)
		return 0;
	if (failed && ret >= 0)
		goto out;

	event = gadget_reserve_buf(&events, sizeof(*event));
	if (!event)
		goto out;

	gadget_process_populate(&event->proc);
	event->timestamp_raw = bpf_ktime_get_boot_ns();
	event->error_raw = ret < 0 ? -ret : 0;
	event->fd = ret < 0 ? 0 : ret;
	event->flags_raw = pending->flags;
	event->mode_raw = pending->mode;
	bpf_probe_read_user_str(event->fname, sizeof(event->fname), pending->fname);
	event->fpath[0] = 0;
	if (paths && ret >= 0)
		read_full_path_of_open_file_fd(ret, event->fpath, sizeof(event->fpath));

	gadget_submit_buf(ctx, &events, event, sizeof(*event));
out:
	bpf_map_delete_elem(&start, &tid);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_open")
int ig_open_e(struct syscall_trace_enter *ctx)
{
	return enter((const char *)ctx->args[0], ctx->args[1], ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_enter_openat")
int ig_openat_e(struct syscall_trace_enter *ctx)
{
	return enter((const char *)ctx->args[1], ctx->args[2], ctx->args[3]);
}

SEC("tracepoint/syscalls/sys_exit_open")
int ig_open_x(struct syscall_trace_exit *ctx)
{
	return leave(ctx);
}

SEC("tracepoint/syscalls/sys_exit_openat")
int ig_openat_x(struct syscall_trace_exit *ctx)
{
	return leave(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
