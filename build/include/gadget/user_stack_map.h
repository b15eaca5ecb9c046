/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __USER_STACK_MAP_H
#define __USER_STACK_MAP_H

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include <gadget/core_fixes.bpf.h>
#include <gadget/fnv1a.h>
#include <gadget/macros.h>
#include <gadget/types.h>

/*
 * User stacks, off by default. A program stores the key of a stack and what identifies the process
 * (struct gadget_user_stack); user space looks the addresses up and names them. Include vmlinux.h
 * before this header.
 */

#define GADGET_USER_MAX_STACK_DEPTH 127
#define GADGET_USER_STACK_MAP_MAX_ENTRIES 10000

const volatile bool collect_ustack = false;
GADGET_PARAM(collect_ustack);

/* Also note build ids and file offsets, by which stacks can be named on another machine. */
const volatile bool collect_build_id = false;
GADGET_PARAM(collect_build_id);

/* Also let an OpenTelemetry profiler unwind the stack (kprobes and perf events). */
const volatile bool collect_otel_stack = false;
GADGET_PARAM(collect_otel_stack);

/* Size of ig_build_id, which user space gives it when it loads the object. */
const volatile int ig_build_id_max_entries = 1024;
GADGET_PARAM(ig_build_id_max_entries);

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, GADGET_USER_MAX_STACK_DEPTH * sizeof(__u64));
	__uint(max_entries, GADGET_USER_STACK_MAP_MAX_ENTRIES);
} ig_ustack SEC(".maps");

struct gadget_build_id_stack {
	struct bpf_stack_build_id frames[GADGET_USER_MAX_STACK_DEPTH];
};

/* By the key of the stack in ig_ustack. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 0);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct gadget_build_id_stack));
} ig_build_id SEC(".maps");

static const struct gadget_build_id_stack __gadget_no_build_ids = {};

/* What the profiler's unwinder leaves behind for the event that called it. */
struct generic_param {
	__u64 correlation_id;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct generic_param);
} otel_generic_params SEC(".maps");

#define __GADGET_UNWINDER_SLOT(name)                                                             \
	struct {                                                                                 \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                           \
		__uint(max_entries, 1);                                                          \
		__type(key, __u32);                                                              \
		__type(value, __u32);                                                            \
		__array(values, int());                                                          \
	} name SEC(".maps")

__GADGET_UNWINDER_SLOT(otel_tc_kprobe);
__GADGET_UNWINDER_SLOT(otel_tc_perf);

/* The time of modification: i_mtime until 6.6, __i_mtime until 6.10, two members since 6.11. */
struct inode___mtime_split {
	__s64 i_mtime_sec;
	__u32 i_mtime_nsec;
} __gadget_flavour;

struct timespec64___mtime {
	__s64 tv_sec;
	long tv_nsec;
} __gadget_flavour;

struct inode___mtime_private {
	struct timespec64___mtime __i_mtime;
} __gadget_flavour;

struct inode___mtime_public {
	struct timespec64___mtime i_mtime;
} __gadget_flavour;

/* Leaves both alone on a kernel that keeps the time in yet another way. */
static __always_inline void gadget_inode_get_mtime(struct inode *inode, __u64 *sec, __u32 *nsec)
{
	struct inode___mtime_split *split = (void *)inode;
	struct inode___mtime_private *private = (void *)inode;
	struct inode___mtime_public *public = (void *)inode;

	if (bpf_core_field_exists(split->i_mtime_sec)) {
		*sec = BPF_CORE_READ(split, i_mtime_sec);
		*nsec = BPF_CORE_READ(split, i_mtime_nsec);
	} else if (bpf_core_field_exists(private->__i_mtime.tv_nsec)) {
		*sec = BPF_CORE_READ(private, __i_mtime.tv_sec);
		*nsec = BPF_CORE_READ(private, __i_mtime.tv_nsec);
	} else if (bpf_core_field_exists(public->i_mtime.tv_nsec)) {
		*sec = BPF_CORE_READ(public, i_mtime.tv_sec);
		*nsec = BPF_CORE_READ(public, i_mtime.tv_nsec);
	}
}

/* Tells apart the address spaces that one process has in its life: it changes with execve(). */
static __always_inline __u32 gadget_get_base_addr_hash(struct task_struct *task)
{
	__u32 hash = fnv_32a_init();

	fnv_32a_update_u64(&hash, (__u64)BPF_CORE_READ(task, mm));
	fnv_32a_update_u64(&hash, BPF_CORE_READ(task, mm, start_code));
	fnv_32a_update_u64(&hash, BPF_CORE_READ(task, mm, start_stack));
	return hash;
}

static __always_inline void __gadget_note_build_ids(void *ctx, __u32 stack_id)
{
	struct gadget_build_id_stack *stack;

	/* An element that exists already has been filled by the program that made it. */
	if (bpf_map_update_elem(&ig_build_id, &stack_id, &__gadget_no_build_ids, BPF_NOEXIST))
		return;
	stack = bpf_map_lookup_elem(&ig_build_id, &stack_id);
	if (stack)
		bpf_get_stack(ctx, stack, sizeof(*stack), BPF_F_USER_STACK | BPF_F_USER_BUILD_ID);
}

static __always_inline void __gadget_identify_process(struct gadget_user_stack *stack)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct inode *inode = BPF_CORE_READ(task, mm, exe_file, f_inode);
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	__u32 dev = BPF_CORE_READ(inode, i_sb, s_dev);

	stack->major = dev >> 20;
	stack->minor = dev & 0xfffff;
	stack->inode = BPF_CORE_READ(inode, i_ino);
	stack->mtime_sec = 0;
	stack->mtime_nsec = 0;
	gadget_inode_get_mtime(inode, &stack->mtime_sec, &stack->mtime_nsec);
	stack->base_addr_hash = gadget_get_base_addr_hash(task);

	stack->tgid_level0 = BPF_CORE_READ(task, tgid);
	stack->pid_level0 = BPF_CORE_READ(pid, numbers[0].nr);
	stack->pidns_level0 = BPF_CORE_READ(pid, numbers[0].ns, ns.inum);
	stack->pid_level1 = 0;
	stack->pidns_level1 = 0;
	if (BPF_CORE_READ(pid, level) >= 1) {
		stack->pid_level1 = BPF_CORE_READ(pid, numbers[1].nr);
		stack->pidns_level1 = BPF_CORE_READ(pid, numbers[1].ns, ns.inum);
	}
}

/* Everything but the correlation id; false when user stacks are off, and all is 0 then. */
static __always_inline bool __gadget_fill_user_stack(void *ctx, struct gadget_user_stack *stack)
{
	long stack_id;

	if (!collect_ustack) {
		__builtin_memset(stack, 0, sizeof(*stack));
		return false;
	}

	stack_id = bpf_get_stackid(ctx, &ig_ustack, BPF_F_FAST_STACK_CMP | BPF_F_USER_STACK);
	stack->stack_id = stack_id;
	stack->otel_correlation_id = 0;
	stack->boot_timestamp = bpf_ktime_get_boot_ns();
	__gadget_identify_process(stack);
	if (collect_build_id && stack_id >= 0)
		__gadget_note_build_ids(ctx, stack_id);
	return true;
}

/* Functions of their own: a tail call ends the function that makes it. */
static __noinline int __gadget_unwind_kprobe(void *ctx)
{
	bpf_tail_call(ctx, &otel_tc_kprobe, 0);
	return 0;
}

static __noinline int __gadget_unwind_perf_event(void *ctx)
{
	bpf_tail_call(ctx, &otel_tc_perf, 0);
	return 0;
}

static __always_inline __u64 __gadget_correlation_id(void)
{
	__u32 zero = 0;
	struct generic_param *left = bpf_map_lookup_elem(&otel_generic_params, &zero);

	return left ? left->correlation_id : 0;
}

static __always_inline void
gadget_get_user_stack_from_kprobe(void *ctx, struct gadget_user_stack *stack)
{
	if (__gadget_fill_user_stack(ctx, stack) && collect_otel_stack) {
		__gadget_unwind_kprobe(ctx);
		stack->otel_correlation_id = __gadget_correlation_id();
	}
}

static __always_inline void
gadget_get_user_stack_from_perf_event(void *ctx, struct gadget_user_stack *stack)
{
	if (__gadget_fill_user_stack(ctx, stack) && collect_otel_stack) {
		__gadget_unwind_perf_event(ctx);
		stack->otel_correlation_id = __gadget_correlation_id();
	}
}

/* The unwinder cannot start from a tracepoint: with collect_otel_stack the program is refused. */
static __always_inline void
gadget_get_user_stack_from_tracepoint(void *ctx, struct gadget_user_stack *stack)
{
	if (__gadget_fill_user_stack(ctx, stack) && collect_otel_stack)
		bpf_core_unreachable();
}

/* By the type of ctx; programs whose ctx has another type than these two have no unwinder. */
#define gadget_get_user_stack(ctx, stack)                                                        \
	_Generic((ctx),                                                                          \
		struct pt_regs *: gadget_get_user_stack_from_kprobe,                             \
		struct bpf_perf_event_data *: gadget_get_user_stack_from_perf_event,             \
		default: gadget_get_user_stack_from_tracepoint)(ctx, stack)

#endif
