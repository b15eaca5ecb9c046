// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Packets that a filter lets through, with another function behind it in the same section. */
#define GADGET_TYPE_NETWORKING
#define GADGET_NO_BUF_RESERVE
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <gadget/macros.h>
#include <gadget/packetfilter.h>
#include <gadget/types.h>

struct event {
	gadget_netns_id netns_id;
	__u32 length;
	__u16 port;
	__u8 second;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

GADGET_TRACER(packets, events, event);

GADGET_PF();
GADGET_PF(second);

static __noinline int length_of(struct __sk_buff *skb)
{
	return skb->len;
}

static __noinline int port_of(struct __sk_buff *skb)
{
	struct iphdr ip;
	struct udphdr udp;

	if (length_of(skb) < 42)
		return -1;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.protocol != IPPROTO_UDP)
		return -1;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + ip.ihl * 4, &udp, sizeof(udp)))
		return -1;
	return bpf_ntohs(udp.dest);
}

SEC("classifier/egress/seen")
int on_egress(struct __sk_buff *skb)
{
	struct event event = {.netns_id = skb->cb[0]};
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	int port;

	if (!gadget_pf_matches(skb, data, end))
		return TC_ACT_UNSPEC;
	event.second = gadget_pf_matches(second, skb, data, end);
	port = port_of(skb);
	if (port < 0)
		return TC_ACT_UNSPEC;
	event.port = port;
	event.length = length_of(skb);
	bpf_perf_event_output(skb, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
