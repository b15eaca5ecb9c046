// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Whole UDP packets that pass an interface, up to a length, behind each event. */
#define GADGET_TYPE_NETWORKING
#define GADGET_NO_BUF_RESERVE
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <gadget/macros.h>
#include <gadget/types.h>

const volatile __u16 snaplen = 1500;
GADGET_PARAM(snaplen);

struct event {
	gadget_timestamp timestamp_raw;
	gadget_netns_id netns_id;
	__u32 ifindex;
	__u32 captured;
	__u32 length;
	char direction[12];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

GADGET_TRACER(packets, events, event);

static __always_inline int seen(struct __sk_buff *skb, const char *direction)
{
	struct event event = {};
	struct iphdr ip;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_UNSPEC;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.protocol != IPPROTO_UDP)
		return TC_ACT_UNSPEC;
	event.timestamp_raw = bpf_ktime_get_boot_ns();
	event.netns_id = skb->cb[0];
	event.ifindex = skb->ifindex;
	event.length = skb->len;
	event.captured = skb->len < snaplen ? skb->len : snaplen;
	__builtin_memcpy(event.direction, direction, sizeof(event.direction));
	bpf_perf_event_output(skb, &events, (__u64)event.captured << 32 | BPF_F_CURRENT_CPU,
			      &event, sizeof(event));
	return TC_ACT_UNSPEC;
}

SEC("classifier/ingress/seen")
int on_ingress(struct __sk_buff *skb)
{
	return seen(skb, "coming in\0\0");
}

SEC("classifier/egress/seen")
int on_egress(struct __sk_buff *skb)
{
	return seen(skb, "going out\0\0");
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
