// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * The scout reports each new mount namespace, and enters it into the filter map of every running
 * gadget before a process in it executes a program. User space keeps the events of the namespace
 * until it knows whether that is a container (docs/discovery.md).
 *
 * The notice is written before the filter maps: a reader of an event of a pending namespace finds
 * the notice in the ring buffer.
 */

#include "types.h"

#include <bpf/bpf_helpers.h>

#define MAX_FILTERS 64
#define MAX_RINGS 16
#define MAX_LEVELS 8 /* of cgroups in a path, and of nested pid namespaces */
#define NAME_SIZE 128
#define PATH_SIZE 512
#define MAX_CONTROLLERS 16
/* Notices of one pending namespace: a fork bomb in it must not fill the ring buffer. */
#define MAX_NOTICES 64
/* Nested user namespaces, the initial one included (user_namespaces(7)). */
#define MAX_USER_LEVELS 33
#define RING_SIZE (1024 * 1024)
/* Notices of users' namespaces are written while less than this waits in the ring. */
#define USERS_SHARE (RING_SIZE / 2)

enum kind {
	KIND_NEW = 1,
	KIND_FORK,
	KIND_EXEC,
	KIND_EXIT,
	KIND_MOVED,
};

enum flag {
	/* Too many namespaces are pending: events of this one pass only when user space lets them. */
	FLAG_SHUT = 1,
	/* Its first process is in another control group than its parent: moved or created there. */
	FLAG_PLACED = 2,
	/* It was created in another user namespace than the initial one: any user can do that. */
	FLAG_OF_USER = 4,
};

enum state {
	STATE_PENDING = 1,
	STATE_SETTLED, /* written by user space */
};

/* Value in a filter map; gadgets only look whether the key exists. */
#define FILTER_PENDING 2

struct process_notice {
	__u64 mntns;
	__u64 generation; /* of the namespace: distinguishes it from earlier ones with its inode number */
	__u32 kind;
	__u32 flags;
	__u32 pid;    /* in user space's pid namespace, 0 when it has none there */
	__u32 nspid;  /* in the innermost pid namespace */
	__u32 ppid;
	__u32 path_size;
	__u64 cgroup_id; /* in the unified hierarchy */
	char comm[16];
	/* User id of the owner of the outermost user namespace below the initial one; 0: none. */
	__u32 owner;
	__u32 reserved;
};

struct notice {
	struct process_notice head;
	/*
	 * Of a new namespace: the producer position of each gadget's ring buffer at that time.
	 * Samples before it with the same inode number are of an earlier namespace.
	 */
	__u64 written[MAX_RINGS];
	/* Names of cgroups, each with its NUL, the innermost first. */
	char path[PATH_SIZE + NAME_SIZE];
};

struct seen {
	__u64 generation;
	__u32 state;
	__u32 notices;
};

/*
 * Offsets of members in the running kernel's structures, from its BTF. User space finds them in a
 * fraction of the time that libbpf needs to relocate an object (core/src/bpf/offsets.rs).
 */
struct offsets {
	__u32 task_pid;
	__u32 task_tgid;
	__u32 task_parent;
	__u32 task_leader;
	__u32 task_thread_pid;
	__u32 task_comm;
	__u32 task_nsproxy;
	__u32 task_cgroups;
	__u32 nsproxy_mnt;
	__u32 mnt_inum;
	__u32 mnt_user_ns;
	__u32 user_parent;
	__u32 user_level; /* 0: the initial one */
	__u32 user_owner;
	__u32 mnt_generation; /* seq, or since Linux 6.18 ns.ns_id: never used again */
	__u32 pid_level;
	__u32 pid_numbers;
	__u32 upid_size;
	__u32 upid_nr;
	__u32 upid_ns;
	__u32 pidns_inum;
	__u32 set_subsys;
	__u32 set_subsys_count;
	__u32 set_unified;
	__u32 css_cgroup;
	__u32 cgroup_level;
	__u32 cgroup_node;
	__u32 node_name;
	__u32 node_id;
	__u32 node_parent;
};

const volatile struct {
	struct offsets offsets;
	/* Inode number of user space's pid namespace; 0: the initial one. */
	__u32 pidns;
	/* Namespaces that may be pending at the same time: root's, users'. */
	__u32 max_pending[2];
} given = {};

/*
 * Namespaces that users create without any rights have quotas of their own, so that no number of
 * them takes the room of root's containers. Index 0: root's, 1: users'.
 */
struct {
	__u64 admitted[2]; /* namespaces made pending */
	__u64 missed[2]; /* new namespaces whose notice had no room: seen again at their next exec */
	__u64 shut[2];   /* namespaces that were not let through because too many were pending */
	__u64 full;      /* updates that found a gadget's filter map full */
} counts = {};

/* Namespaces settled by user space, ever: root's, users'. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} settled SEC(".maps");

/*
 * Namespaces that are older than the scout: inode number -> generation, 0 until a process of the
 * namespace is seen. A later namespace with that number has another generation.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u64);
} old SEC(".maps");

/*
 * A namespace whose entry was evicted is reported again, and is settled again. One map at most has
 * an entry for an inode number.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct seen);
} namespaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct seen);
} user_namespaces SEC(".maps");

struct filter_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_FILTERS);
	__type(key, __u32);
	__type(value, __u32);
	__array(values, struct filter_map);
} filters SEC(".maps");

struct event_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_RINGS);
	__type(key, __u32);
	__type(value, __u32);
	__array(values, struct event_ring);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_SIZE);
} notices SEC(".maps");

typedef const char *address;

struct place {
	__u64 mntns;
	__u64 generation;
	address user_ns; /* in which the namespace was created */
};

/* Reads kernel memory "at" bytes behind "base"; 0 when that fails. */
#define READ(type, base, at)                                                                     \
	({                                                                                       \
		type __value = 0;                                                                \
		bpf_probe_read_kernel(&__value, sizeof(__value), (base) + (at));                 \
		__value;                                                                         \
	})

/*
 * Functions that are not static are verified once per program, not once per call. They take
 * addresses as numbers, which is enough for READ.
 */

static __always_inline bool find_place(address task, struct place *place)
{
	address nsproxy = READ(address, task, given.offsets.task_nsproxy);
	address ns;

	/* an exiting task has left its namespaces */
	if (!nsproxy)
		return false;
	ns = READ(address, nsproxy, given.offsets.nsproxy_mnt);
	if (!ns)
		return false;
	place->mntns = READ(__u32, ns, given.offsets.mnt_inum);
	/* 0 means "not known yet" */
	place->generation = READ(__u64, ns, given.offsets.mnt_generation) + 1;
	place->user_ns = READ(address, ns, given.offsets.mnt_user_ns);
	return true;
}

static __always_inline __u32 level_of(address user_ns)
{
	return READ(__u32, user_ns, given.offsets.user_level);
}

/* Index of the quota of a namespace. */
static __always_inline __u32 quota_of(const struct place *place)
{
	return level_of(place->user_ns) ? 1 : 0;
}

__noinline __u32 owner_of(__u64 of)
{
	address user_ns = (address)of;

	if (!level_of(user_ns))
		return 0;
	for (__u32 i = 0; i < MAX_USER_LEVELS; i++) {
		if (level_of(user_ns) == 1)
			return READ(__u32, user_ns, given.offsets.user_owner);
		user_ns = READ(address, user_ns, given.offsets.user_parent);
	}
	return 0;
}

static __always_inline bool was_there(const struct place *place)
{
	__u64 *generation = bpf_map_lookup_elem(&old, &place->mntns);

	if (!generation)
		return false;
	if (!*generation)
		*generation = place->generation;
	return *generation == place->generation;
}

static __always_inline address number_of(address pid, __u32 level)
{
	return pid + given.offsets.pid_numbers + level * given.offsets.upid_size;
}

__noinline __u32 pid_for_user(__u64 of)
{
	address task = (address)of;
	address pid;
	__u32 level;

	if (!given.pidns)
		return READ(__u32, task, given.offsets.task_tgid);
	pid = READ(address, READ(address, task, given.offsets.task_leader), given.offsets.task_thread_pid);
	level = READ(__u32, pid, given.offsets.pid_level);
	for (__u32 i = 0; i < MAX_LEVELS; i++) {
		address number = number_of(pid, i);
		address ns;

		if (i > level)
			break;
		ns = READ(address, number, given.offsets.upid_ns);
		if (READ(__u32, ns, given.offsets.pidns_inum) == given.pidns)
			return READ(__u32, number, given.offsets.upid_nr);
	}
	return 0;
}

static __always_inline __u32 innermost_pid(address task)
{
	address pid = READ(address, task, given.offsets.task_thread_pid);
	__u32 level = READ(__u32, pid, given.offsets.pid_level);

	return READ(__u32, number_of(pid, level), given.offsets.upid_nr);
}

static __always_inline void fill_head(struct process_notice *head, const struct place *place,
				      address task, enum kind kind)
{
	address set = READ(address, task, given.offsets.task_cgroups);
	address unified = READ(address, set, given.offsets.set_unified);

	head->mntns = place->mntns;
	head->generation = place->generation;
	head->kind = kind;
	head->flags = 0;
	head->pid = pid_for_user((__u64)task);
	head->nspid = innermost_pid(task);
	head->ppid = pid_for_user(READ(__u64, task, given.offsets.task_parent));
	head->path_size = 0;
	head->cgroup_id = READ(__u64, READ(address, unified, given.offsets.cgroup_node), given.offsets.node_id);
	bpf_probe_read_kernel_str(head->comm, sizeof(head->comm), task + given.offsets.task_comm);
	head->owner = owner_of((__u64)place->user_ns);
	head->reserved = 0;
}

/* The deepest cgroup of the task in any hierarchy: engines use only some of them. */
__noinline __u64 own_cgroup(__u64 of)
{
	address task = (address)of;
	address set = READ(address, task, given.offsets.task_cgroups);
	address best = READ(address, set, given.offsets.set_unified);
	__s32 level = READ(__s32, best, given.offsets.cgroup_level);

	for (__u32 i = 0; i < MAX_CONTROLLERS; i++) {
		address css, cgroup;
		__s32 its;

		if (i >= given.offsets.set_subsys_count)
			break;
		css = READ(address, set, given.offsets.set_subsys + i * sizeof(css));
		if (!css)
			continue;
		cgroup = READ(address, css, given.offsets.css_cgroup);
		its = READ(__s32, cgroup, given.offsets.cgroup_level);
		if (its > level) {
			level = its;
			best = cgroup;
		}
	}
	return (__u64)best;
}

static __always_inline void fill_path(struct notice *notice, address task)
{
	address node = READ(address, (address)own_cgroup((__u64)task), given.offsets.cgroup_node);
	__u32 at = 0;

	for (int i = 0; i < MAX_LEVELS; i++) {
		address parent, name;
		__u32 size;

		if (!node || at >= PATH_SIZE)
			break;
		parent = READ(address, node, given.offsets.node_parent);
		/* the root has no name */
		if (!parent)
			break;
		name = READ(address, node, given.offsets.node_name);
		barrier_var(at); /* the bound and the use must be of one register for the verifier */
		at &= PATH_SIZE - 1;
		size = bpf_probe_read_kernel_str(&notice->path[at], NAME_SIZE, name);
		if (!size || size > NAME_SIZE)
			break;
		at += size;
		node = parent;
	}
	notice->head.path_size = at;
}

__noinline __u64 written(__u32 slot)
{
	void *ring = bpf_map_lookup_elem(&rings, &slot);

	return ring ? bpf_ringbuf_query(ring, BPF_RB_PROD_POS) : 0;
}

static __always_inline bool has_room(const struct place *place)
{
	return !quota_of(place) || bpf_ringbuf_query(&notices, BPF_RB_AVAIL_DATA) < USERS_SHARE;
}

__noinline int tell(__u64 task, __u64 mntns, __u64 generation, __u32 kind, __u32 flags)
{
	struct place place = {};
	struct notice *notice;

	/* The number and the generation are those that the caller has seen. */
	if (!find_place((address)task, &place) || !has_room(&place))
		return false;
	place.mntns = mntns;
	place.generation = generation;
	notice = bpf_ringbuf_reserve(&notices, sizeof(*notice), 0);
	if (!notice)
		return false;
	fill_head(&notice->head, &place, (address)task, kind);
	notice->head.flags = flags;
	for (__u32 slot = 0; slot < MAX_RINGS; slot++)
		notice->written[slot] = kind == KIND_NEW ? written(slot) : 0;
	fill_path(notice, (address)task);
	bpf_ringbuf_submit(notice, 0);
	return true;
}

/* A notice without the path: forks and exits do not move a process. */
static __always_inline void tell_shortly(const struct place *place, address task,
					 enum kind kind)
{
	struct process_notice *head;

	if (!has_room(place))
		return;
	head = bpf_ringbuf_reserve(&notices, sizeof(*head), 0);
	if (!head)
		return;
	fill_head(head, place, task, kind);
	bpf_ringbuf_submit(head, 0);
}

static __always_inline bool too_many_pending(__u32 quota)
{
	__u64 *done = bpf_map_lookup_elem(&settled, &quota);
	__u64 admitted = quota ? counts.admitted[1] : counts.admitted[0];
	__u32 most = quota ? given.max_pending[1] : given.max_pending[0];

	/* a namespace that user space settled twice makes room for one more */
	return done && (__s64)(admitted - *done) >= (__s64)most;
}

__noinline int open_filter(__u64 mntns, __u32 slot)
{
	__u32 value = FILTER_PENDING;
	void *filter = bpf_map_lookup_elem(&filters, &slot);

	if (!filter || bpf_map_lookup_elem(filter, &mntns))
		return 0;
	if (bpf_map_update_elem(filter, &mntns, &value, BPF_NOEXIST))
		__sync_fetch_and_add(&counts.full, 1);
	return 0;
}

static __always_inline void open_filters(__u64 mntns)
{
	for (__u32 slot = 0; slot < MAX_FILTERS; slot++)
		open_filter(mntns, slot);
}

static __always_inline void count_admitted(__u32 quota, bool closed)
{
	if (quota) {
		__sync_fetch_and_add(&counts.admitted[1], 1);
		if (closed)
			__sync_fetch_and_add(&counts.shut[1], 1);
	} else {
		__sync_fetch_and_add(&counts.admitted[0], 1);
		if (closed)
			__sync_fetch_and_add(&counts.shut[0], 1);
	}
}

static __always_inline long remember(__u32 quota, const __u64 *mntns, const struct seen *seen)
{
	return quota ? bpf_map_update_elem(&user_namespaces, mntns, seen, BPF_ANY)
		     : bpf_map_update_elem(&namespaces, mntns, seen, BPF_ANY);
}

static __always_inline void forget(__u32 quota, const __u64 *mntns)
{
	if (quota)
		bpf_map_delete_elem(&user_namespaces, mntns);
	else
		bpf_map_delete_elem(&namespaces, mntns);
}

__noinline int admit(__u64 task, __u64 mntns, __u64 generation, __u32 quota)
{
	struct seen seen = {.generation = generation, .state = STATE_PENDING};
	bool closed = too_many_pending(quota);
	__u32 flags = (closed ? FLAG_SHUT : 0) | (quota ? FLAG_OF_USER : 0);

	if (own_cgroup(task) != own_cgroup(READ(__u64, (address)task, given.offsets.task_parent)))
		flags |= FLAG_PLACED;

	/* Two CPUs may come here with one namespace: the notices are the same. */
	if (remember(quota, &mntns, &seen))
		return 0;
	forget(!quota, &mntns);
	if (!tell(task, mntns, generation, KIND_NEW, flags)) {
		forget(quota, &mntns);
		if (quota)
			__sync_fetch_and_add(&counts.missed[1], 1);
		else
			__sync_fetch_and_add(&counts.missed[0], 1);
		return 0;
	}
	count_admitted(quota, closed);
	if (!closed)
		open_filters(mntns);
	return 0;
}

/* What is known of a namespace, or NULL. */
static __always_inline struct seen *find_seen(const struct place *place)
{
	struct seen *seen;

	if (quota_of(place))
		seen = bpf_map_lookup_elem(&user_namespaces, &place->mntns);
	else
		seen = bpf_map_lookup_elem(&namespaces, &place->mntns);
	return seen && seen->generation == place->generation ? seen : NULL;
}

/* The entry of a namespace that user space still has to decide about, or NULL. */
static __always_inline struct seen *pending(const struct place *place)
{
	struct seen *seen = find_seen(place);

	if (!seen || seen->state != STATE_PENDING)
		return NULL;
	if (seen->notices >= MAX_NOTICES)
		return NULL;
	seen->notices++;
	return seen;
}

/* True when the namespace was known before. */
static __always_inline bool visit(address task, struct place *place)
{
	if (!find_place(task, place) || was_there(place) || find_seen(place))
		return true;
	admit((__u64)task, place->mntns, place->generation, quota_of(place));
	return false;
}

static __always_inline address current(void)
{
	return (address)bpf_get_current_task();
}

/* False for a further thread of a process. */
static __always_inline bool is_process(address task)
{
	return READ(__u32, task, given.offsets.task_pid) == READ(__u32, task, given.offsets.task_tgid);
}

/*
 * Runs in the calling thread before it returns to user mode. User space attaches it to the exit of
 * setns(), too.
 */
SEC("tracepoint/syscalls/sys_exit_unshare")
int scout_moved(void *ctx)
{
	struct place place = {};

	visit(current(), &place);
	return 0;
}

struct raw_args {
	__u64 args[4];
};

/* A process is made (clone, clone3, fork, vfork); the child has not run yet. */
SEC("raw_tracepoint/sched_process_fork")
int scout_fork(struct raw_args *ctx)
{
	address child = (address)ctx->args[1];
	struct place place = {};

	/* the notice of a namespace that began with this child names the child already */
	if (visit(child, &place) && is_process(child) && pending(&place))
		tell_shortly(&place, child, KIND_FORK);
	return 0;
}

SEC("raw_tracepoint/sched_process_exec")
int scout_exec(struct raw_args *ctx)
{
	address task = (address)ctx->args[0];
	struct place place = {};

	visit(task, &place);
	if (pending(&place))
		tell((__u64)task, place.mntns, place.generation, KIND_EXEC, 0);
	return 0;
}

SEC("raw_tracepoint/sched_process_exit")
int scout_exit(struct raw_args *ctx)
{
	address task = (address)ctx->args[0];
	struct place place = {};

	/* was_there() notes the generation of an old namespace, here at the latest */
	if (!find_place(task, &place) || was_there(&place))
		return 0;
	if (is_process(task) && pending(&place))
		tell_shortly(&place, task, KIND_EXIT);
	return 0;
}

/* Some runtimes move init into the container's cgroup after creating its namespace. */
SEC("raw_tracepoint/cgroup_attach_task")
int scout_attach(struct raw_args *ctx)
{
	address task = (address)ctx->args[2];
	struct place place = {};

	if (find_place(task, &place) && !was_there(&place) && pending(&place))
		tell((__u64)task, place.mntns, place.generation, KIND_MOVED, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
