/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __TYPES_H
#define __TYPES_H

#ifndef __VMLINUX_H__
#include <stdbool.h>
#endif

#include <gadget/compiler.h>

/*
 * User space reacts to the *names* of these types: a field of type gadget_timestamp is rendered as
 * a time, a gadget_errno as the name of an error, and so on. Include vmlinux.h or linux/types.h
 * before this header.
 */

typedef __u64 gadget_mntns_id; /* inode of a mount namespace */
typedef __u32 gadget_netns_id; /* inode of a network namespace */

typedef __u64 gadget_timestamp; /* ns, bpf_ktime_get_boot_ns(); 0: when read */
typedef __u64 gadget_duration; /* ns */
typedef __u64 gadget_bytes;

typedef __u32 gadget_signal;
typedef __u32 gadget_errno; /* positive */
typedef __u64 gadget_syscall; /* number */
typedef __u32 gadget_file_mode;
typedef __u32 gadget_file_flags;
typedef __u32 gadget_kernel_stack; /* key of ig_kstack */

typedef __u32 gadget_uid;
typedef __u32 gadget_gid;

/* Processes as user space names them: a pid is the kernel's tgid, a tid the kernel's pid. */
typedef __u32 gadget_pid;
typedef __u32 gadget_tid;
typedef __u32 gadget_ppid;
typedef __u32 gadget_ptid;
typedef char gadget_comm;
typedef char gadget_pcomm;

/* Metrics */
typedef __u32 gadget_counter__u32;
typedef __u64 gadget_counter__u64;
typedef __u32 gadget_gauge__u32;
typedef __u64 gadget_gauge__u64;
typedef __u32 gadget_histogram_slot__u32;
typedef __u64 gadget_histogram_slot__u64;

#ifndef TASK_COMM_LEN
#define TASK_COMM_LEN 16
#endif

#define GADGET_SE_PATH_MAX 4096

/* The 128-bit member aligns the union to 16 bytes; the layouts below depend on it. */
union gadget_ip_addr_t {
	__u8 v6[16];
	unsigned __int128 v6_raw;
	__u32 v4; /* network byte order */
};

struct gadget_l3endpoint_t {
	union gadget_ip_addr_t addr_raw;
	__u8 version; /* 4 or 6 */
};

struct gadget_l4endpoint_t {
	union gadget_ip_addr_t addr_raw;
	__u16 port; /* host byte order */
	__u16 proto_raw; /* IPPROTO_* */
	__u8 version; /* 4 or 6 */
};

struct gadget_creds {
	gadget_uid uid;
	gadget_gid gid;
};

struct gadget_parent {
	gadget_pcomm comm[TASK_COMM_LEN];
	gadget_ppid pid;
	gadget_ptid tid;
};

struct gadget_process {
	gadget_comm comm[TASK_COMM_LEN];
	gadget_pid pid;
	gadget_tid tid;
	gadget_mntns_id mntns_id;
	struct gadget_creds creds;
	struct gadget_parent parent;
};

/* What user space needs to turn the stack "stack_id" of ig_ustack into symbols. */
struct gadget_user_stack {
	/* identity of the executable */
	__u32 major;
	__u32 minor;
	__u64 inode;
	__u64 mtime_sec;
	__u32 mtime_nsec;
	__u32 base_addr_hash;

	__u32 stack_id;

	/* the process, in the outermost and in the next pid namespace */
	__u32 tgid_level0;
	__u32 pid_level0;
	__u32 pidns_level0;
	__u32 pid_level1;
	__u32 pidns_level1;

	__u64 otel_correlation_id;
	__u64 boot_timestamp;
};

/*
 * Value of gadget_sockets: who owns a socket. User space decides which members from
 * optional_fields_start on exist; test them with bpf_core_field_exists().
 */
struct gadget_socket_value {
	__u64 mntns;
	__u64 pid_tgid;
	__u64 uid_gid;
	char task[TASK_COMM_LEN];
	char ptask[TASK_COMM_LEN];
	__u64 sock;
	__u64 deletion_timestamp;
	__u32 ppid;
	__u32 ptid;
	char ipv6only;
	char optional_fields_start[0] __attribute__((aligned(8)));
	char cwd[GADGET_SE_PATH_MAX];
	char exepath[GADGET_SE_PATH_MAX];
} __attribute__((preserve_access_index));

#endif
