/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef OWNER_H
#define OWNER_H

#include "kernel.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define MAX_SOCKETS 16384
#define PATH_MAX 4096
#define SCRATCHES 2

/* struct gadget_socket_key */
struct key {
	__u32 netns;
	__u16 family;
	__u8 proto;
	__u8 padding;
	__u16 port;
	__u16 more_padding;
};

/* struct gadget_socket_value, with members of our own in its padding. */
struct owner {
	__u64 mntns;
	__u64 pid_tgid;
	__u64 uid_gid;
	char task[16];
	char ptask[16];
	__u64 sock;
	__u64 deletion_timestamp;
	__u32 ppid;
	__u32 ptid;
	__u8 ipv6only;
	__u8 listening;
	/* Another socket has the same key. When this one is closed, a walk looks for the other. */
	__u8 contested;
	__u8 padding[5];
	char optional[2 * PATH_MAX];
};

/* Bytes of a value in gadget_sockets without the optional members. */
#define OWNER_FIXED 88

_Static_assert(sizeof(struct key) == 12, "as gadgets have it");
_Static_assert(__builtin_offsetof(struct owner, optional) == OWNER_FIXED, "as gadgets have it");

/* Sizes of the optional members, in the order of the members; 0: the member is absent. */
const volatile struct {
	__u32 cwd;
	__u32 exepath;
} given = {};

enum member {
	CWD,
	EXEPATH,
};

/*
 * A value is too large for the stack. A program of a control group may be interrupted by another
 * program on the same CPU. A program that finds every scratch value of its CPU in use gives up and
 * counts that; user space then walks over the open files.
 */
struct scratch {
	__u64 busy;
	struct owner owner;
	char path[2 * PATH_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

#endif
