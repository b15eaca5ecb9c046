// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* UDP packets of each network namespace, as a socket filter sees them. */
#define GADGET_TYPE_NETWORKING
#define GADGET_NO_BUF_RESERVE
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/types.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <gadget/macros.h>
#include <gadget/types.h>

struct event {
	gadget_timestamp timestamp_raw;
	gadget_netns_id netns_id;
	__u16 port;
	__u8 outgoing;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

GADGET_TRACER(packets, events, event);

SEC("socket1")
int on_packet(struct __sk_buff *skb)
{
	struct event event = {};
	struct iphdr ip;
	struct udphdr udp;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return 0;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.protocol != IPPROTO_UDP)
		return 0;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + ip.ihl * 4, &udp, sizeof(udp)))
		return 0;
	event.timestamp_raw = bpf_ktime_get_boot_ns();
	event.netns_id = skb->cb[0];
	event.port = bpf_ntohs(udp.dest);
	event.outgoing = skb->pkt_type == PACKET_OUTGOING;
	bpf_perf_event_output(skb, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
