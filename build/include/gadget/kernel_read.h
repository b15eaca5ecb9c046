/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __KERNEL_READ_H
#define __KERNEL_READ_H

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/*
 * Reads of members of kernel structs through a single slot of the stack. What these headers add to a
 * program must leave it the stack that it would have otherwise: BPF_CORE_READ() of several members
 * takes two slots, and programs may fill all but a few of their 512 bytes.
 */

#if defined(__VMLINUX_H__)

static __always_inline __u64 __gadget_read_u64(const void *from)
{
	__u64 value; /* zeroed by the kernel when it cannot be read */

	bpf_probe_read_kernel(&value, sizeof(value), from);
	return value;
}

static __always_inline __u32 __gadget_read_u32(const void *from)
{
	__u32 value;

	bpf_probe_read_kernel(&value, sizeof(value), from);
	return value;
}

/* Members of 8 and of 4 bytes; 0 when they cannot be read. */
#define __GADGET_READ_U64(from, member)                                                          \
	__gadget_read_u64(__builtin_preserve_access_index(&(from)->member))
#define __GADGET_READ_U32(from, member)                                                          \
	__gadget_read_u32(__builtin_preserve_access_index(&(from)->member))

/* NULL for a task that is exiting and has none any more. */
static __always_inline struct mnt_namespace *__gadget_current_mnt_ns(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct nsproxy *namespaces = (void *)__GADGET_READ_U64(task, nsproxy);

	return (void *)__GADGET_READ_U64(namespaces, mnt_ns);
}

#endif

/* Loops of these headers stay loops (Linux 5.3): the code is there once for each use, not 8 times. */
#define __GADGET_NOT_UNROLLED _Pragma("clang loop unroll(disable)")

#endif
