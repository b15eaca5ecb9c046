// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// Who owns the socket of a packet? Run with packets that a test makes; the answer is a pid.
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

// The layout is fixed here: no user space decides about optional members.
#define preserve_access_index unused
#define GADGET_TYPE_NETWORKING
#include <gadget/filter.h>
#include <gadget/packetfilter.h>
#include <gadget/sockets-map.h>

#define DISCARDED 0xffff

GADGET_PF();

static __always_inline int owner_of(struct __sk_buff *skb, int is_ingress)
{
	struct gadget_socket_value *owner = gadget_socket_lookup_with_direction(skb, is_ingress);
	struct gadget_process process = {};

	if (!gadget_pf_matches(skb, (long)skb->data, (long)skb->data_end))
		return DISCARDED;
	if (gadget_should_discard_data_by_skb(owner))
		return DISCARDED;
	gadget_process_populate_from_socket(owner, &process);
	if (owner && (process.comm[0] != 'o' || process.creds.uid != 1 || process.creds.gid != 2))
		return -1;
	return process.pid;
}

SEC("classifier/ingress/owner")
int receiver(struct __sk_buff *skb)
{
	return owner_of(skb, 1);
}

SEC("classifier/egress/owner")
int sender(struct __sk_buff *skb)
{
	return owner_of(skb, 0);
}

SEC("socket1")
int on_socket(struct __sk_buff *skb)
{
	return gadget_socket_lookup(skb) != 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
