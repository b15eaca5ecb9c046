/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef MNTNS_H
#define MNTNS_H

#include <gadget/kernel_read.h>
#include <gadget/types.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* Mount namespace of the current task; 0 for a task that is exiting and has none any more. */
static __always_inline gadget_mntns_id gadget_get_current_mntns_id(void)
{
	return __GADGET_READ_U32(__gadget_current_mnt_ns(), ns.inum);
}

__attribute__((deprecated("use gadget_get_current_mntns_id()")))
static __always_inline gadget_mntns_id gadget_get_mntns_id(void)
{
	return gadget_get_current_mntns_id();
}

#endif
