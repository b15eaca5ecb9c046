/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __CORE_FIXES_BPF_H
#define __CORE_FIXES_BPF_H

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/*
 * What the kernel renamed, moved or split over time. The structs with a suffix after "___" are
 * flavours: CO-RE matches them with the kernel's struct of the name before it.
 */

#define __gadget_flavour __attribute__((preserve_access_index))

/*
 * A call that no kernel accepts: it marks code which must have been removed before the verifier
 * sees it. The address is the one that loaders report as a failed CO-RE relocation.
 */
static void (*const bpf_core_unreachable)(void) = (void (*)(void))0xbad2310;

/* task_struct.state became __state in 5.14. */
struct task_struct___with_state {
	volatile long state;
} __gadget_flavour;

struct task_struct___with_new_state {
	unsigned int __state;
} __gadget_flavour;

static __always_inline __s64 get_task_state(void *task)
{
	struct task_struct___with_new_state *newer = task;
	struct task_struct___with_state *older = task;

	if (bpf_core_field_exists(newer->__state))
		return BPF_CORE_READ(newer, __state);
	return BPF_CORE_READ(older, state);
}

/* bio.bi_disk moved into bio.bi_bdev in 5.12. */
struct bio___with_disk {
	struct gendisk *bi_disk;
} __gadget_flavour;

struct block_device___with_disk {
	struct gendisk *bd_disk;
} __gadget_flavour;

struct bio___with_bdev {
	struct block_device___with_disk *bi_bdev;
} __gadget_flavour;

static __always_inline struct gendisk *get_gendisk(void *bio)
{
	struct bio___with_bdev *newer = bio;
	struct bio___with_disk *older = bio;

	if (bpf_core_field_exists(older->bi_disk))
		return BPF_CORE_READ(older, bi_disk);
	return BPF_CORE_READ(newer, bi_bdev, bd_disk);
}

/* request.rq_disk went away in 5.16; the queue knows its disk since 5.15. */
struct request_queue___with_disk {
	struct gendisk *disk;
} __gadget_flavour;

struct request___with_queue_disk {
	struct request_queue___with_disk *q;
} __gadget_flavour;

struct request___with_disk {
	struct gendisk *rq_disk;
} __gadget_flavour;

static __always_inline struct gendisk *get_disk(void *request)
{
	struct request___with_queue_disk *newer = request;
	struct request___with_disk *older = request;

	if (bpf_core_field_exists(older->rq_disk))
		return BPF_CORE_READ(older, rq_disk);
	return BPF_CORE_READ(newer, q, disk);
}

/* The event class block_rq_completion exists since 5.16. */
struct trace_event_raw_block_rq_completion___probe {
	int error;
} __gadget_flavour;

static __always_inline bool has_block_rq_completion(void)
{
	return bpf_core_type_exists(struct trace_event_raw_block_rq_completion___probe);
}

/* renamedata.old_mnt_userns: 5.12 to 6.2. */
struct renamedata___probe {
	struct user_namespace *old_mnt_userns;
} __gadget_flavour;

static __always_inline bool renamedata_has_old_mnt_userns_field(void)
{
	return bpf_core_field_exists(struct renamedata___probe, old_mnt_userns);
}

/* The event class kmem_free was split into kfree and kmem_cache_free in 5.12. */
struct trace_event_raw_kfree___probe {
	const void *ptr;
} __gadget_flavour;

struct trace_event_raw_kmem_cache_free___probe {
	const void *ptr;
} __gadget_flavour;

static __always_inline bool has_kfree(void)
{
	return bpf_core_type_exists(struct trace_event_raw_kfree___probe);
}

static __always_inline bool has_kmem_cache_free(void)
{
	return bpf_core_type_exists(struct trace_event_raw_kmem_cache_free___probe);
}

/* tcp_retransmit_skb left the class tcp_event_sk_skb in 6.15 (backported to older series). */
struct trace_event_raw_tcp_retransmit_skb___own_class {
	const void *skbaddr;
	const void *skaddr;
} __gadget_flavour;

struct trace_event_raw_tcp_event_sk_skb___shared_class {
	const void *skbaddr;
	const void *skaddr;
} __gadget_flavour;

static __always_inline const struct sk_buff *gadget_get_tcp_retransmit_skb_skbaddr(void *ctx)
{
	struct trace_event_raw_tcp_retransmit_skb___own_class *newer = ctx;
	struct trace_event_raw_tcp_event_sk_skb___shared_class *older = ctx;

	if (bpf_core_type_exists(struct trace_event_raw_tcp_retransmit_skb___own_class))
		return BPF_CORE_READ(newer, skbaddr);
	return BPF_CORE_READ(older, skbaddr);
}

static __always_inline const struct sock *gadget_get_tcp_retransmit_skb_skaddr(void *ctx)
{
	struct trace_event_raw_tcp_retransmit_skb___own_class *newer = ctx;
	struct trace_event_raw_tcp_event_sk_skb___shared_class *older = ctx;

	if (bpf_core_type_exists(struct trace_event_raw_tcp_retransmit_skb___own_class))
		return BPF_CORE_READ(newer, skaddr);
	return BPF_CORE_READ(older, skaddr);
}

/* The change time: i_ctime until 6.5, __i_ctime until 6.10, two plain members since 6.11. */
struct inode___ctime_split {
	__s64 i_ctime_sec;
	__u32 i_ctime_nsec;
} __gadget_flavour;

struct timespec64___ctime {
	__s64 tv_sec;
	long tv_nsec;
} __gadget_flavour;

struct inode___ctime_private {
	struct timespec64___ctime __i_ctime;
} __gadget_flavour;

struct inode___ctime_public {
	struct timespec64___ctime i_ctime;
} __gadget_flavour;

/* Since 6.13 the kernel keeps a flag in the nanoseconds. */
#ifndef I_CTIME_QUERIED
#define I_CTIME_QUERIED (1U << 31)
#endif

/* ns since the epoch; 0 for times before it. */
static __always_inline __u64 gadget_get_ctime_nanosec_from_inode(struct inode *inode)
{
	struct inode___ctime_split *split = (void *)inode;
	struct inode___ctime_private *private = (void *)inode;
	struct inode___ctime_public *public = (void *)inode;
	__s64 sec;
	__u32 nsec;

	if (bpf_core_field_exists(split->i_ctime_sec)) {
		sec = BPF_CORE_READ(split, i_ctime_sec);
		nsec = BPF_CORE_READ(split, i_ctime_nsec);
	} else if (bpf_core_field_exists(private->__i_ctime)) {
		sec = BPF_CORE_READ(private, __i_ctime.tv_sec);
		nsec = BPF_CORE_READ(private, __i_ctime.tv_nsec);
	} else {
		sec = BPF_CORE_READ(public, i_ctime.tv_sec);
		nsec = BPF_CORE_READ(public, i_ctime.tv_nsec);
	}

	if (sec < 0)
		return 0;
	return (__u64)sec * 1000000000ULL + (nsec & ~I_CTIME_QUERIED);
}

/* Number of the system call whose registers these are; -1 on an unknown architecture. */
static __always_inline long gadget_get_syscall_nr(struct pt_regs *regs)
{
#if defined(bpf_target_x86)
	return BPF_CORE_READ(regs, orig_ax);
#elif defined(bpf_target_arm64)
	return BPF_CORE_READ(regs, syscallno);
#else
	return -1;
#endif
}

/* Argument "id" (from 1 to 6) of the system call whose registers these are. */
static __always_inline unsigned long gadget_get_syscall_arg(struct pt_regs *regs, unsigned int id)
{
	switch (id) {
	case 1:
		return PT_REGS_PARM1_CORE_SYSCALL(regs);
	case 2:
		return PT_REGS_PARM2_CORE_SYSCALL(regs);
	case 3:
		return PT_REGS_PARM3_CORE_SYSCALL(regs);
	case 4:
		return PT_REGS_PARM4_CORE_SYSCALL(regs);
	case 5:
		return PT_REGS_PARM5_CORE_SYSCALL(regs);
	case 6:
		return PT_REGS_PARM6_CORE_SYSCALL(regs);
	default:
		return 0;
	}
}

#endif
