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

/* struct gadget_socket_value, and in its padding what is only known here. */
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
	/* Another socket has the same key: when this one goes, that one is to be looked for. */
	__u8 contested;
	__u8 padding[5];
	char optional[2 * PATH_MAX];
};

/* Bytes of a value in gadget_sockets without the optional members. */
#define OWNER_FIXED 88

_Static_assert(sizeof(struct key) == 12, "as gadgets have it");
_Static_assert(__builtin_offsetof(struct owner, optional) == OWNER_FIXED, "as gadgets have it");

/* Bytes of the optional members, in the order in which they follow the others; 0: not there. */
const volatile struct {
	__u32 cwd;
	__u32 exepath;
} given = {};

enum member {
	CWD,
	EXEPATH,
};

/*
 * A value is too large for the stack. Programs of control groups may be interrupted by others on
 * their processor: who finds all of its scratches in use gives up, and user space looks again.
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
