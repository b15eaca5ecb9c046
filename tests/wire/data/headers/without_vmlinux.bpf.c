/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packet programs include the kernel's public headers only; layouts are the same there. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define GADGET_TYPE_NETWORKING
#include <gadget/buffer.h>
#include <gadget/filter.h>
#include <gadget/gpu_types.h>
#include <gadget/macros.h>
#include <gadget/packetfilter.h>
#include <gadget/sockets-map.h>
#include <gadget/types.h>

_Static_assert(sizeof(struct gadget_l4endpoint_t) == 32, "with its alignment of 16");
_Static_assert(sizeof(struct gadget_process) == 64, "");
_Static_assert(sizeof(struct gadget_socket_value) == 8280, "");
_Static_assert(sizeof(struct gadget_socket_key) == 12, "");
_Static_assert(sizeof(struct gpu_device_metrics) == 128, "");
_Static_assert(GADGET_SE_ETH_P_IPV6 == 0x86DD, "");

GADGET_PF(second);

SEC("socket1")
int on_packet(struct __sk_buff *skb)
{
	struct gadget_socket_value *owner = gadget_socket_lookup(skb);
	struct gadget_process process = {};

	gadget_process_populate_from_socket(owner, &process);
	return gadget_should_discard_data_by_skb(owner) + process.pid;
}

SEC("classifier/ingress/main")
int on_ingress(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	return gadget_pf_matches(second, skb, data, end) &&
	       gadget_socket_lookup_with_direction(skb, 1) != 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
