// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* UDP packets that pass an interface, in both directions; those to one port get a verdict. */
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
#include <gadget/types.h>

#define JUDGED_PORT 47012

const volatile int verdict = TC_ACT_OK;
GADGET_PARAM(verdict);

struct event {
	gadget_netns_id netns_id;
	__u16 port;
	__u8 egress;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

GADGET_TRACER(packets, events, event);

static __always_inline int seen(struct __sk_buff *skb, __u8 egress)
{
	struct event event = {.netns_id = skb->cb[0], .egress = egress};
	struct iphdr ip;
	struct udphdr udp;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_UNSPEC;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.protocol != IPPROTO_UDP)
		return TC_ACT_UNSPEC;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + ip.ihl * 4, &udp, sizeof(udp)))
		return TC_ACT_UNSPEC;
	event.port = bpf_ntohs(udp.dest);
	bpf_perf_event_output(skb, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return event.port == JUDGED_PORT ? verdict : TC_ACT_UNSPEC;
}

SEC("classifier/ingress/seen")
int on_ingress(struct __sk_buff *skb)
{
	return seen(skb, 0);
}

SEC("classifier/egress/seen")
int on_egress(struct __sk_buff *skb)
{
	return seen(skb, 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
