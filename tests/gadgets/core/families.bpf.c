// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// One small program of each kind that is attached by more than its section's name.
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

static __always_inline void count(__u32 key)
{
	__u64 one = 1, *found = bpf_map_lookup_elem(&counts, &key);

	if (found)
		__sync_fetch_and_add(found, 1);
	else
		bpf_map_update_elem(&counts, &key, &one, BPF_ANY);
}

SEC("perf_event/sampler")
int on_sample(struct bpf_perf_event_data *ctx)
{
	count(1);
	return 0;
}

SEC("sockops")
int on_sockops(struct bpf_sock_ops *ctx)
{
	count(2);
	return 1;
}

SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *ctx)
{
	count(3);
	return 1;
}

SEC("sk_msg")
int on_message(struct sk_msg_md *ctx)
{
	return SK_PASS;
}

SEC("sk_skb/stream_verdict")
int on_stream(struct __sk_buff *ctx)
{
	return SK_PASS;
}

SEC("xdp")
int on_frame(struct xdp_md *ctx)
{
	count(4);
	return XDP_PASS;
}

SEC("iter/task")
int walk_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u32 ids[2];

	if (!task)
		return 0;
	ids[0] = task->tgid;
	ids[1] = task->pid;
	bpf_seq_write(ctx->meta->seq, ids, sizeof(ids));
	return 0;
}

SEC("iter/bpf_map_elem")
int walk_counts(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *key = ctx->key;
	__u64 *value = ctx->value;

	if (!key || !value)
		return 0;
	bpf_seq_write(ctx->meta->seq, key, sizeof(*key));
	bpf_seq_write(ctx->meta->seq, value, sizeof(*value));
	return 0;
}

SEC("iter/tcp")
int walk_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	__u16 port;

	if (!sk)
		return 0;
	port = sk->skc_num;
	bpf_seq_write(ctx->meta->seq, &port, sizeof(port));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
