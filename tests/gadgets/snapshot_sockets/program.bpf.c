// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Sockets of each network namespace: an iterator lists those of its reader's namespace only. */
#include <vmlinux.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <gadget/macros.h>
#include <gadget/types.h>

#define AF_INET 2
#define AF_INET6 10

struct socket_entry {
	struct gadget_l4endpoint_t src;
	struct gadget_l4endpoint_t dst;
	gadget_netns_id netns_id;
	__u32 state;
	__u64 inode;
};

GADGET_ITER(sockets, socket_entry, on_tcp, on_udp);

static __always_inline void show(struct seq_file *seq, struct sock_common *sk, __u16 proto)
{
	struct socket_entry entry = {};
	struct socket *socket;

	entry.src.proto_raw = entry.dst.proto_raw = proto;
	entry.src.port = BPF_CORE_READ(sk, skc_num);
	entry.dst.port = bpf_ntohs(BPF_CORE_READ(sk, skc_dport));
	entry.netns_id = BPF_CORE_READ(sk, skc_net.net, ns.inum);
	entry.state = BPF_CORE_READ(sk, skc_state);
	if (BPF_CORE_READ(sk, skc_family) == AF_INET) {
		entry.src.version = entry.dst.version = 4;
		entry.src.addr_raw.v4 = BPF_CORE_READ(sk, skc_rcv_saddr);
		entry.dst.addr_raw.v4 = BPF_CORE_READ(sk, skc_daddr);
	} else {
		entry.src.version = entry.dst.version = 6;
		BPF_CORE_READ_INTO(&entry.src.addr_raw, sk, skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&entry.dst.addr_raw, sk, skc_v6_daddr);
	}
	/* A socket of a state before its own has not this member. */
	if (entry.state != BPF_TCP_TIME_WAIT && entry.state != BPF_TCP_NEW_SYN_RECV) {
		socket = BPF_CORE_READ((struct sock *)sk, sk_socket);
		entry.inode = BPF_CORE_READ(socket, file, f_inode, i_ino);
	}
	bpf_seq_write(seq, &entry, sizeof(entry));
}

SEC("iter/tcp")
int on_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;

	if (sk)
		show(ctx->meta->seq, sk, IPPROTO_TCP);
	return 0;
}

SEC("iter/udp")
int on_udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *sk = ctx->udp_sk;

	if (sk)
		show(ctx->meta->seq, (struct sock_common *)sk, IPPROTO_UDP);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
