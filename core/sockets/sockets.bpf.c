// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * Keeps the map gadget_sockets: the process that owns each socket (docs/sockets.md).
 *
 * A walk over the open files of all tasks finds the sockets that exist already. A later socket is
 * entered in the system call that gives it a port, before its first packet leaves: by trampolines
 * or, where the kernel has none, by programs of the root control group.
 */

#include "owner.h"
#include "path.h"

/* How long the entry of a closed socket is kept: its last packets may still be processed. */
#define GRACE_NS (5 * 1000000000ULL)
/* Entries of the queue "closed" that are tried to make room for one socket. */
#define MAX_TRIES 16

struct {
	__u64 full;    /* owners for which a map had no room */
	__u64 busy;    /* owners for which no scratch value was free */
	__u64 orphans; /* closed sockets whose key other sockets have */
	__u64 unseen;  /* calls of connect() whose exit no program saw */
	__u64 began;   /* bpf_ktime_get_boot_ns() at the start of the last walk */
} counts = {};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SOCKETS);
	__type(key, struct key);
	__type(value, struct owner);
} gadget_sockets SEC(".maps");

struct known {
	struct key key;
	__u32 padding;
	__u64 seen;
};

/*
 * The key of each socket in gadget_sockets, by the address of struct sock. A closed socket may have
 * lost its port; one lookup tells whether a socket has an owner already.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * MAX_SOCKETS);
	__type(key, __u64);
	__type(value, struct known);
} known SEC(".maps");

/* UDP sockets in connect(), by the address of the task: the program runs before the port is set. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} connecting SEC(".maps");

/* Keys of closed sockets, the first closed one first: their entries make room for new ones. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, MAX_SOCKETS);
	__uint(value_size, sizeof(struct key));
} closed SEC(".maps");

enum manner {
	USED, /* the calling task uses the socket now */
	OPENED, /* a task has the socket open, perhaps not the one that made it */
};

/* A pointer as a number: a global function such as own() may take numbers only. */
static __always_inline __u64 address_of(const void *pointer)
{
	const void *spilled = pointer;
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &spilled);
	return address;
}

static __always_inline bool make_key(struct key *key, const struct sock *sk)
{
	__u16 proto = BPF_CORE_READ(sk, sk_protocol);

	key->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	key->port = BPF_CORE_READ(sk, __sk_common.skc_num);
	key->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	key->proto = proto == IPPROTO_MPTCP ? IPPROTO_TCP : proto;
	return key->port && (key->family == AF_INET || key->family == AF_INET6) &&
	       (key->proto == IPPROTO_TCP || key->proto == IPPROTO_UDP);
}

static __always_inline bool same_key(const struct key *a, const struct key *b)
{
	return a->netns == b->netns && a->family == b->family && a->proto == b->proto &&
	       a->port == b->port;
}

/* The socket "of" is closed. Its entry stays for GRACE_NS. */
__noinline int forget(__u64 of)
{
	struct known *entry = bpf_map_lookup_elem(&known, &of);
	struct owner *owner;
	struct key key;

	if (!entry)
		return 0;
	key = entry->key;
	bpf_map_delete_elem(&known, &of);
	owner = bpf_map_lookup_elem(&gadget_sockets, &key);
	if (!owner || owner->sock != of || owner->deletion_timestamp)
		return 0;
	owner->deletion_timestamp = bpf_ktime_get_boot_ns();
	bpf_map_push_elem(&closed, &key, BPF_EXIST);
	/* Accepted connections have the port of the listening socket, and may outlive it. */
	if (owner->contested || owner->listening)
		__sync_fetch_and_add(&counts.orphans, 1);
	return 0;
}

static __always_inline struct scratch *take_scratch(__u32 *slot)
{
	for (__u32 i = 0; i < SCRATCHES; i++) {
		struct scratch *scratch;

		*slot = i;
		scratch = bpf_map_lookup_elem(&scratches, slot);
		if (scratch && !__sync_lock_test_and_set(&scratch->busy, 1))
			return scratch;
	}
	__sync_fetch_and_add(&counts.busy, 1);
	return NULL;
}

static __always_inline void describe(struct owner *owner, const struct task_struct *task)
{
	const struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	__u64 gid = BPF_CORE_READ(task, cred, gid.val);

	owner->mntns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	owner->pid_tgid = (__u64)BPF_CORE_READ(task, tgid) << 32 | (__u32)BPF_CORE_READ(task, pid);
	owner->uid_gid = gid << 32 | BPF_CORE_READ(task, cred, uid.val);
	BPF_CORE_READ_INTO(&owner->task, task, comm);
	BPF_CORE_READ_INTO(&owner->ptask, parent, comm);
	owner->ppid = BPF_CORE_READ(parent, tgid);
	owner->ptid = BPF_CORE_READ(parent, pid);
	owner->deletion_timestamp = 0;
}

static __always_inline void describe_files(struct owner *owner, __u32 slot,
					   const struct task_struct *task)
{
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);

	owner->optional[0] = '\0';
	owner->optional[given.cwd & SIZE_MASK] = '\0';
	if (given.cwd && fs)
		write_path((__u64)__builtin_preserve_access_index(&fs->pwd), slot, CWD);
	/* a kernel thread has no executable */
	if (given.exepath && exe)
		write_path((__u64)__builtin_preserve_access_index(&exe->f_path), slot, EXEPATH);
}

/* Deletes the entry of the socket that was closed first; false when there is none. */
static __always_inline bool make_room(void)
{
	for (int i = 0; i < MAX_TRIES; i++) {
		struct owner *owner;
		struct key key;

		if (bpf_map_pop_elem(&closed, &key))
			return false;
		owner = bpf_map_lookup_elem(&gadget_sockets, &key);
		if (owner && owner->deletion_timestamp)
			return !bpf_map_delete_elem(&gadget_sockets, &key);
	}
	return false;
}

static __always_inline void remember(__u64 of, const struct key *key)
{
	struct known entry = {.key = *key, .seen = bpf_ktime_get_boot_ns()};

	if (!bpf_map_update_elem(&known, &of, &entry, BPF_ANY))
		return;
	/* A socket that is not in "known" would never be deleted. */
	bpf_map_delete_elem(&gadget_sockets, key);
	__sync_fetch_and_add(&counts.full, 1);
}

/* Does a socket replace "other", which has the same key? */
static __always_inline bool takes_over(const struct owner *other, bool listening, __u8 state,
				       __u32 manner)
{
	if (other->listening)
		/* An accepted connection does not replace the listening socket. */
		return manner == USED && (listening || state == TCP_CLOSE);
	return manner == USED || listening;
}

/* Makes the task "by" the owner of the socket "of", once that has a port. */
__noinline int own(__u64 of, __u64 by, __u32 manner)
{
	const struct sock *sk = (const struct sock *)of;
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
	struct known *before = bpf_map_lookup_elem(&known, &of);
	struct scratch *scratch;
	struct owner *other;
	struct key key = {};
	bool listening, taken;
	__u32 slot;
	long error;

	if (!make_key(&key, sk))
		return 0;
	if (before && !same_key(&before->key, &key))
		forget(of);
	listening = state == TCP_LISTEN && key.proto == IPPROTO_TCP;
	other = bpf_map_lookup_elem(&gadget_sockets, &key);
	taken = other && !other->deletion_timestamp;
	if (taken && other->sock == of) {
		other->listening = listening;
		return 0;
	}
	if (taken && !takes_over(other, listening, state, manner)) {
		other->contested = 1;
		return 0;
	}

	scratch = take_scratch(&slot);
	if (!scratch)
		return 0;
	describe(&scratch->owner, (const struct task_struct *)by);
	describe_files(&scratch->owner, slot, (const struct task_struct *)by);
	scratch->owner.sock = of;
	scratch->owner.ipv6only = BPF_CORE_READ_BITFIELD_PROBED(sk, __sk_common.skc_ipv6only);
	scratch->owner.listening = listening;
	scratch->owner.contested = taken;
	error = bpf_map_update_elem(&gadget_sockets, &key, &scratch->owner, BPF_ANY);
	if (error && make_room())
		error = bpf_map_update_elem(&gadget_sockets, &key, &scratch->owner, BPF_ANY);
	__sync_lock_test_and_set(&scratch->busy, 0);
	if (!error) {
		remember(of, &key);
		return 0;
	}
	__sync_fetch_and_add(&counts.full, 1);
	return 0;
}

static __always_inline void used(__u64 of)
{
	struct known *entry = bpf_map_lookup_elem(&known, &of);

	if (entry && entry->key.port == BPF_CORE_READ((const struct sock *)of, __sk_common.skc_num))
		return;
	own(of, bpf_get_current_task(), USED);
}

/*
 * The context is the socket itself. The programs return 1, which lets the call go on.
 */
SEC("cgroup/post_bind4")
int sockets_bound4(void *ctx)
{
	own(address_of(ctx), bpf_get_current_task(), USED);
	return 1;
}

SEC("cgroup/post_bind6")
int sockets_bound6(void *ctx)
{
	own(address_of(ctx), bpf_get_current_task(), USED);
	return 1;
}

SEC("cgroup/sendmsg4")
int sockets_sent4(struct bpf_sock_addr *ctx)
{
	used(address_of(ctx->sk));
	return 1;
}

SEC("cgroup/sendmsg6")
int sockets_sent6(struct bpf_sock_addr *ctx)
{
	used(address_of(ctx->sk));
	return 1;
}

static __always_inline int connects(struct bpf_sock_addr *ctx)
{
	__u64 task = bpf_get_current_task();
	__u64 of = address_of(ctx->sk);

	/* For TCP, sockops runs once the port is set. */
	if (ctx->protocol == IPPROTO_UDP)
		bpf_map_update_elem(&connecting, &task, &of, BPF_ANY);
	else
		bpf_map_delete_elem(&connecting, &task);
	return 1;
}

SEC("cgroup/connect4")
int sockets_connect4(struct bpf_sock_addr *ctx)
{
	return connects(ctx);
}

SEC("cgroup/connect6")
int sockets_connect6(struct bpf_sock_addr *ctx)
{
	return connects(ctx);
}

static __always_inline int connected(void)
{
	__u64 task = bpf_get_current_task();
	__u64 *of = bpf_map_lookup_elem(&connecting, &task);
	__u64 address;

	if (!of)
		return 0;
	address = *of;
	bpf_map_delete_elem(&connecting, &task);
	used(address);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_connect")
int sockets_connected(void *ctx)
{
	return connected();
}

/* io_uring connects as well. */
SEC("tracepoint/syscalls/sys_exit_io_uring_enter")
int sockets_ring_entered(void *ctx)
{
	return connected();
}

/* TCP: before SYN is sent, and when listen() has set the port. */
SEC("sockops")
int sockets_of_tcp(struct bpf_sock_ops *ctx)
{
	void *sk;

	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB && ctx->op != BPF_SOCK_OPS_TCP_LISTEN_CB)
		return 1;
	sk = ctx->sk;
	if (sk)
		own(address_of(sk), bpf_get_current_task(), USED);
	return 1;
}

SEC("cgroup/sock_release")
int sockets_released(void *ctx)
{
	forget(address_of(ctx));
	return 1;
}

/*
 * The same by trampolines. Their context is the function's arguments, then its return value.
 */
static __always_inline __u64 sock_of(__u64 argument)
{
	const struct socket *socket = (const struct socket *)address_of((const void *)argument);

	return (__u64)BPF_CORE_READ(socket, sk);
}

static __always_inline int called(__u64 argument, __s32 result)
{
	if (!result)
		own(sock_of(argument), bpf_get_current_task(), USED);
	return 0;
}

SEC("?fexit/inet_bind")
int sockets_bind4(__u64 *ctx)
{
	return called(ctx[0], ctx[3]);
}

SEC("?fexit/inet6_bind")
int sockets_bind6(__u64 *ctx)
{
	return called(ctx[0], ctx[3]);
}

SEC("?fexit/inet_listen")
int sockets_listen(__u64 *ctx)
{
	return called(ctx[0], ctx[2]);
}

SEC("?fentry/tcp_connect")
int sockets_tcp_connect(__u64 *ctx)
{
	own(address_of((const void *)ctx[0]), bpf_get_current_task(), USED);
	return 0;
}

SEC("?fexit/inet_dgram_connect")
int sockets_udp_connect(__u64 *ctx)
{
	return called(ctx[0], ctx[4]);
}

SEC("?fentry/udp_sendmsg")
int sockets_udp_send4(__u64 *ctx)
{
	used(address_of((const void *)ctx[0]));
	return 0;
}

SEC("?fentry/udpv6_sendmsg")
int sockets_udp_send6(__u64 *ctx)
{
	used(address_of((const void *)ctx[0]));
	return 0;
}

SEC("?fentry/inet_release")
int sockets_release(__u64 *ctx)
{
	forget(sock_of(ctx[0]));
	return 0;
}

SEC("iter/task_file")
int sockets_held(struct file_context *ctx)
{
	struct file *file = ctx->file;
	struct known *entry;
	struct socket *socket;
	__u64 of;

	if (!ctx->meta->seq_num)
		counts.began = bpf_ktime_get_boot_ns();
	if (!file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	of = (__u64)BPF_CORE_READ(socket, sk);
	if (!of)
		return 0;
	own(of, address_of(ctx->task), OPENED);
	entry = bpf_map_lookup_elem(&known, &of);
	if (entry)
		entry->seen = bpf_ktime_get_boot_ns();
	return 0;
}

/* Over "known", where no program sees that sockets are closed: what the last walk did not find. */
SEC("iter/bpf_map_elem")
int sockets_lost(struct element_context *ctx)
{
	struct known *entry = ctx->value;
	__u64 *key = ctx->key;

	if (key && entry && entry->seen < counts.began)
		forget(*key);
	return 0;
}

/*
 * Over "connecting": calls whose exit no program saw, of 32-bit programs and io_uring's threads.
 * They are counted; user space then walks over the open files and finds the sockets.
 */
SEC("iter/bpf_map_elem")
int sockets_waiting(struct element_context *ctx)
{
	__u64 *task = ctx->key;
	__u64 key;

	if (!task)
		return 0;
	key = *task;
	bpf_map_delete_elem(&connecting, &key);
	__sync_fetch_and_add(&counts.unseen, 1);
	return 0;
}

static __always_inline bool is_old(const struct owner *owner)
{
	return owner->deletion_timestamp &&
	       bpf_ktime_get_boot_ns() - owner->deletion_timestamp >= GRACE_NS;
}

/* Walks gadget_sockets. */
SEC("iter/bpf_map_elem")
int sockets_purge(struct element_context *ctx)
{
	struct owner *owner = ctx->value;
	struct key *from = ctx->key;
	struct key key;

	if (!from || !owner)
		return 0;
	if (is_old(owner)) {
		key = *from;
		bpf_map_delete_elem(&gadget_sockets, &key);
	}
	/* Keys of entries that are not closed (any more) leave the queue: make_room() tries few. */
	if (bpf_map_peek_elem(&closed, &key))
		return 0;
	owner = bpf_map_lookup_elem(&gadget_sockets, &key);
	if (!owner || !owner->deletion_timestamp)
		bpf_map_pop_elem(&closed, &key);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
