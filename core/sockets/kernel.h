/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef KERNEL_H
#define KERNEL_H

#include "../scout/types.h"

enum {
	BPF_EXIST = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_QUEUE = 22,

	BPF_SOCK_OPS_TCP_CONNECT_CB = 3,
	BPF_SOCK_OPS_TCP_LISTEN_CB = 11,

	AF_INET = 2,
	AF_INET6 = 10,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
	IPPROTO_MPTCP = 262,
	TCP_CLOSE = 7,
	TCP_LISTEN = 10,
};

/* The kernel defines the value. */
enum bpf_func_id {
	BPF_FUNC_loop,
};

/* The members that are read; those of contexts are at the offsets of the kernel's interface. */

struct bpf_sock_addr {
	char before[36];
	__u32 protocol;
	char between[24];
	void *sk;
};

struct bpf_sock_ops {
	__u32 op;
	char between[180];
	void *sk;
};

struct bpf_iter_meta {
	void *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct file_context {
	struct bpf_iter_meta *meta;
	void *task;
	__u64 fd;
	void *file;
};

struct element_context {
	struct bpf_iter_meta *meta;
	void *map;
	void *key;
	void *value;
};

/* Members of the kernel's structures that are read; libbpf relocates them. */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct net {
	struct ns_common ns;
};

struct user_id {
	unsigned int val;
};

struct cred {
	struct user_id uid;
	struct user_id gid;
};

struct qstr {
	unsigned int len;
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
};

struct mm_struct {
	struct file *exe_file;
};

struct fs_struct {
	struct path pwd;
};

struct task_struct {
	int pid;
	int tgid;
	char comm[16];
	struct task_struct *real_parent;
	struct nsproxy *nsproxy;
	const struct cred *cred;
	struct mm_struct *mm;
	struct fs_struct *fs;
};

struct possible_net {
	struct net *net;
};

struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned char skc_ipv6only : 1;
	__u16 skc_num;
	struct possible_net skc_net;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
};

struct socket {
	struct sock *sk;
};

#pragma clang attribute pop

#endif
