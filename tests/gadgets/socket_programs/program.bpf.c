// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* TCP connections enter a map of sockets; what is sent on them is seen, and passes. */
#include <vmlinux.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <gadget/macros.h>
#include <gadget/types.h>

#define AF_INET 2

struct event {
	__u32 bytes;
	__u16 port;
	char program[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

GADGET_TRACER(hits, events, event);

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} sockets SEC(".maps");

GADGET_SK_TARGET_MAP(on_message, sockets);

/* The test's own port: other traffic is not touched. */
const volatile __u16 port = 47013;
GADGET_PARAM(port);

static __always_inline void hit(void *ctx, const char *program, __u32 bytes, __u16 at)
{
	struct event event = {.bytes = bytes, .port = at};

	__builtin_memcpy(event.program, program, 8);
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
}

SEC("sockops")
int on_connection(struct bpf_sock_ops *ops)
{
	__u64 key;

	if (ops->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || ops->family != AF_INET)
		return 1;
	if (bpf_ntohl(ops->remote_port) != port)
		return 1;
	key = (__u64)ops->local_port << 32 | ops->remote_port;
	hit(ops, "connect", 0, port);
	bpf_sock_hash_update(ops, &sockets, &key, BPF_ANY);
	return 1;
}

SEC("sk_msg")
int on_message(struct sk_msg_md *msg)
{
	hit(msg, "message", msg->size, bpf_ntohl(msg->remote_port));
	return SK_PASS;
}

char LICENSE[] SEC("license") = "GPL";
