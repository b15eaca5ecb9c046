// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// Who owns the TCP sockets of this machine? An iterator writes what the sockets map knows.
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

// The layout is fixed here: no user space decides about optional members.
#define preserve_access_index unused
#define GADGET_TYPE_TRACING
#include <gadget/sockets-map.h>

const volatile __u32 netns = 0;

SEC("iter/tcp")
int owners(struct bpf_iter__tcp *ctx)
{
	const struct sock *sk = (const struct sock *)ctx->sk_common;
	struct gadget_socket_value *owner;

	if (!sk)
		return 0;
	owner = gadget_socket_lookup(sk, netns);
	if (owner)
		bpf_seq_write(ctx->meta->seq, &owner->pid_tgid, sizeof(owner->pid_tgid));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
