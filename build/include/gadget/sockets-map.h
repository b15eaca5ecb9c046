/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef SOCKETS_MAP_H
#define SOCKETS_MAP_H

#if !defined(__VMLINUX_H__) && !defined(_LINUX_TYPES_H)
#error "include vmlinux.h or linux/types.h before gadget/sockets-map.h"
#endif

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include <gadget/types.h>

/*
 * Who owns a socket. User space keeps the map while a gadget runs that has it; programs that see
 * packets (GADGET_TYPE_NETWORKING) or sockets (GADGET_TYPE_TRACING) of whatever task look there.
 */

#define GADGET_MAX_SOCKETS 16384

#define GADGET_SE_PACKET_HOST 0
#define GADGET_SE_ETH_HLEN 14
#define GADGET_SE_ETH_P_IP 0x0800
#define GADGET_SE_ETH_P_IPV6 0x86DD
#define GADGET_SE_AF_INET 2
#define GADGET_SE_AF_INET6 10

#define GADGET_SE_IPV6_HLEN 40
#define GADGET_SE_IPV6_NEXTHDR_OFFSET 6
#define GADGET_SE_TCPHDR_SOURCE_OFFSET 0
#define GADGET_SE_TCPHDR_DEST_OFFSET 2
#define GADGET_SE_UDPHDR_SOURCE_OFFSET 0
#define GADGET_SE_UDPHDR_DEST_OFFSET 2

#define GADGET_SE_NEXTHDR_HOP 0
#define GADGET_SE_NEXTHDR_TCP 6
#define GADGET_SE_NEXTHDR_UDP 17
#define GADGET_SE_NEXTHDR_ROUTING 43
#define GADGET_SE_NEXTHDR_FRAGMENT 44
#define GADGET_SE_NEXTHDR_AUTH 51
#define GADGET_SE_NEXTHDR_NONE 59
#define GADGET_SE_NEXTHDR_DEST 60

struct gadget_socket_key {
	__u32 netns;
	__u16 family;
	__u8 proto; /* IPPROTO_* */
	__u16 port; /* the local one, in host byte order */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GADGET_MAX_SOCKETS);
	__type(key, struct gadget_socket_key);
	__type(value, struct gadget_socket_value);
} gadget_sockets SEC(".maps");

#ifdef GADGET_TYPE_NETWORKING

#define __GADGET_SE_IPV4_FRAGMENT_OFFSET 6
#define __GADGET_SE_IPV4_PROTOCOL_OFFSET 9
#define __GADGET_SE_IPV6_MAX_EXTENSIONS 6

/* Follows the extension headers to the one of the protocol: its offset, or 0. */
static __always_inline __u32 __gadget_se_skip_ipv6(const struct __sk_buff *skb, __u8 *proto)
{
	__u32 offset = GADGET_SE_ETH_HLEN + GADGET_SE_IPV6_HLEN;
	__u8 header;

	if (bpf_skb_load_bytes(skb, GADGET_SE_ETH_HLEN + GADGET_SE_IPV6_NEXTHDR_OFFSET, &header,
			       sizeof(header)))
		return 0;

#pragma unroll
	for (int i = 0; i <= __GADGET_SE_IPV6_MAX_EXTENSIONS; i++) {
		__u8 extension[4]; /* next header, length, and of a fragment its offset */

		switch (header) {
		case GADGET_SE_NEXTHDR_TCP:
		case GADGET_SE_NEXTHDR_UDP:
			*proto = header;
			return offset;
		case GADGET_SE_NEXTHDR_HOP:
		case GADGET_SE_NEXTHDR_ROUTING:
		case GADGET_SE_NEXTHDR_FRAGMENT:
		case GADGET_SE_NEXTHDR_AUTH:
		case GADGET_SE_NEXTHDR_DEST:
			break;
		default:
			return 0;
		}
		if (bpf_skb_load_bytes(skb, offset, extension, sizeof(extension)))
			return 0;
		if (header == GADGET_SE_NEXTHDR_FRAGMENT) {
			/* Only the first fragment holds the ports. */
			if (extension[2] || extension[3] & 0xf8)
				return 0;
			offset += 8;
		} else if (header == GADGET_SE_NEXTHDR_AUTH) {
			offset += 4 * (extension[1] + 2);
		} else {
			offset += 8 * (extension[1] + 1);
		}
		header = extension[0];
	}
	return 0;
}

static __always_inline __u32 __gadget_se_skip_ipv4(const struct __sk_buff *skb, __u8 *proto)
{
	__u8 header[__GADGET_SE_IPV4_PROTOCOL_OFFSET + 1];

	if (bpf_skb_load_bytes(skb, GADGET_SE_ETH_HLEN, header, sizeof(header)))
		return 0;
	*proto = header[__GADGET_SE_IPV4_PROTOCOL_OFFSET];
	if (*proto != GADGET_SE_NEXTHDR_TCP && *proto != GADGET_SE_NEXTHDR_UDP)
		return 0;
	/* Only the first fragment holds the ports. */
	if (header[__GADGET_SE_IPV4_FRAGMENT_OFFSET] & 0x1f ||
	    header[__GADGET_SE_IPV4_FRAGMENT_OFFSET + 1])
		return 0;
	return GADGET_SE_ETH_HLEN + 4 * (header[0] & 0xf);
}

/*
 * The owner of the socket that a TCP or UDP packet, with its Ethernet header, belongs to; NULL if
 * unknown. User space sees to it that cb[0] is the network namespace.
 */
static __always_inline struct gadget_socket_value *
gadget_socket_lookup_with_direction(const struct __sk_buff *skb, __u8 is_ingress)
{
	struct gadget_socket_key key = {};
	struct gadget_socket_value *owner;
	__u8 ethertype[2], port[2];
	__u32 offset;

	if (bpf_skb_load_bytes(skb, GADGET_SE_ETH_HLEN - sizeof(ethertype), ethertype,
			       sizeof(ethertype)))
		return 0;
	switch (ethertype[0] << 8 | ethertype[1]) {
	case GADGET_SE_ETH_P_IP:
		key.family = GADGET_SE_AF_INET;
		offset = __gadget_se_skip_ipv4(skb, &key.proto);
		break;
	case GADGET_SE_ETH_P_IPV6:
		key.family = GADGET_SE_AF_INET6;
		offset = __gadget_se_skip_ipv6(skb, &key.proto);
		break;
	default:
		return 0;
	}
	if (!offset)
		return 0;

	/* TCP and UDP have their ports at the same place. */
	offset += is_ingress ? GADGET_SE_TCPHDR_DEST_OFFSET : GADGET_SE_TCPHDR_SOURCE_OFFSET;
	if (bpf_skb_load_bytes(skb, offset, port, sizeof(port)))
		return 0;
	key.port = port[0] << 8 | port[1];
	key.netns = skb->cb[0];

	owner = bpf_map_lookup_elem(&gadget_sockets, &key);
	if (owner || key.family == GADGET_SE_AF_INET6)
		return owner;

	/* An IPv6 socket may receive IPv4 packets. */
	key.family = GADGET_SE_AF_INET6;
	owner = bpf_map_lookup_elem(&gadget_sockets, &key);
	return owner && !owner->ipv6only ? owner : 0;
}

/* In socket filters: there, the packet knows its direction. */
static __always_inline struct gadget_socket_value *
gadget_socket_lookup(const struct __sk_buff *skb)
{
	return gadget_socket_lookup_with_direction(skb, skb->pkt_type == GADGET_SE_PACKET_HOST);
}

#endif

#ifdef GADGET_TYPE_TRACING

/* The owner of a TCP or UDP socket; NULL if unknown. */
static __always_inline struct gadget_socket_value *gadget_socket_lookup(const struct sock *sk,
									__u32 netns)
{
	const struct inet_sock *inet = (const struct inet_sock *)sk;
	struct gadget_socket_key key = {};

	key.netns = netns;
	key.family = BPF_CORE_READ(sk, __sk_common.skc_family);
	key.proto = BPF_CORE_READ_BITFIELD_PROBED(sk, sk_protocol);
	key.port = __builtin_bswap16(BPF_CORE_READ(inet, inet_sport));
	return bpf_map_lookup_elem(&gadget_sockets, &key);
}

#endif

/* Describes the owner of a socket; without one, *p stays as it is. */
static __always_inline void
gadget_process_populate_from_socket(const struct gadget_socket_value *owner,
				    struct gadget_process *p)
{
	if (!owner)
		return;

	__builtin_memcpy(p->comm, owner->task, sizeof(p->comm));
	p->pid = owner->pid_tgid >> 32;
	p->tid = (__u32)owner->pid_tgid;
	p->mntns_id = owner->mntns;
	p->creds.uid = (__u32)owner->uid_gid;
	p->creds.gid = owner->uid_gid >> 32;
	__builtin_memcpy(p->parent.comm, owner->ptask, sizeof(p->parent.comm));
	p->parent.pid = owner->ppid;
	p->parent.tid = bpf_core_field_exists(owner->ptid) ? owner->ptid : 0;
}

#endif
