// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Packets to and from one range of ports, and the owners of their sockets. */
#define GADGET_TYPE_NETWORKING
#include <vmlinux.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <gadget/buffer.h>
#include <gadget/macros.h>
#include <gadget/sockets-map.h>
#include <gadget/types.h>

#define PATH 256
/* The tests' ports: other packets are none of them. */
#define FIRST_PORT 47100
#define LAST_PORT 47199

struct event {
	gadget_timestamp timestamp_raw;
	gadget_netns_id netns_id;
	__u16 local;
	__u16 remote;
	__u8 proto;
	__u8 outgoing;
	struct gadget_process proc;
	char cwd[PATH];
	char exepath[PATH];
};

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(packets, events, event);

static __always_inline void name_owner(struct event *event, const struct __sk_buff *skb)
{
	struct gadget_socket_value *owner = gadget_socket_lookup(skb);

	__builtin_memset(&event->proc, 0, sizeof(event->proc));
	event->cwd[0] = '\0';
	event->exepath[0] = '\0';
	if (!owner)
		return;
	gadget_process_populate_from_socket(owner, &event->proc);
	if (bpf_core_field_exists(owner->cwd))
		bpf_probe_read_kernel_str(event->cwd, PATH, owner->cwd);
	if (bpf_core_field_exists(owner->exepath))
		bpf_probe_read_kernel_str(event->exepath, PATH, owner->exepath);
}

static __always_inline bool of_test(__u16 port)
{
	return port >= FIRST_PORT && port <= LAST_PORT;
}

SEC("socket1")
int on_packet(struct __sk_buff *skb)
{
	bool outgoing = skb->pkt_type != GADGET_SE_PACKET_HOST;
	__u16 ports[2];
	__u8 proto, head;
	__u32 at;
	struct event *event;

	if (skb->protocol == bpf_htons(GADGET_SE_ETH_P_IP)) {
		bpf_skb_load_bytes(skb, GADGET_SE_ETH_HLEN + 9, &proto, sizeof(proto));
		bpf_skb_load_bytes(skb, GADGET_SE_ETH_HLEN, &head, sizeof(head));
		at = GADGET_SE_ETH_HLEN + 4 * (head & 0xf);
	} else if (skb->protocol == bpf_htons(GADGET_SE_ETH_P_IPV6)) {
		bpf_skb_load_bytes(skb, GADGET_SE_ETH_HLEN + 6, &proto, sizeof(proto));
		at = GADGET_SE_ETH_HLEN + GADGET_SE_IPV6_HLEN;
	} else {
		return 0;
	}
	if (proto != GADGET_SE_NEXTHDR_TCP && proto != GADGET_SE_NEXTHDR_UDP)
		return 0;
	if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return 0;
	ports[0] = bpf_ntohs(ports[0]);
	ports[1] = bpf_ntohs(ports[1]);
	if (!of_test(ports[0]) && !of_test(ports[1]))
		return 0;

	event = gadget_reserve_buf(&events, sizeof(*event));
	if (!event)
		return 0;
	event->timestamp_raw = bpf_ktime_get_boot_ns();
	event->netns_id = skb->cb[0];
	event->local = ports[outgoing ? 0 : 1];
	event->remote = ports[outgoing ? 1 : 0];
	event->proto = proto;
	event->outgoing = outgoing;
	name_owner(event, skb);
	gadget_submit_buf(skb, &events, event, sizeof(*event));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
