// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// What the functions of the headers say about one thread that calls lseek(): tests compare it.
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include <gadget/bits.bpf.h>
#include <gadget/common.h>
#include <gadget/core_fixes.bpf.h>
#include <gadget/filesystem.h>
#include <gadget/filter.h>
#include <gadget/fnv1a.h>
#include <gadget/kernel_stack_map.h>
#include <gadget/maps.bpf.h>
#include <gadget/user_stack_map.h>

#ifdef __TARGET_ARCH_x86
#define NR_LSEEK 8
#else
#define NR_LSEEK 62
#endif

const volatile __u64 question = 0; /* the offset that asks */
const volatile __u64 number = 0;

struct answers {
	struct gadget_process process;
	struct gadget_user_stack user_stack;
	__u64 mntns;
	__u64 slot;
	__u64 logarithm;
	__u64 hash64;
	__u32 hash32;
	__u32 base_addr_hash;
	__u64 ctime;
	__u64 mtime_sec;
	__u64 whence; /* third argument of lseek() */
	__s64 state;
	__s64 kernel_stack;
	__s64 path_length;
	__u64 tries;
	__u32 mtime_nsec;
	__u8 discarded;
	__u8 kfree;
	__u8 kmem_cache_free;
	__u8 block_rq_completion;
	__u8 old_mnt_userns;
	char path[GADGET_PATH_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answers);
} answers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, __u64);
} tries SEC(".maps");

SEC("raw_tracepoint/sys_enter")
int ask(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 *known, one = 1, none = 0;
	struct answers *a;
	struct inode *inode;
	struct file *file;
	__u32 zero = 0;
	int fd;

	if (gadget_get_syscall_nr(regs) != NR_LSEEK || gadget_get_syscall_arg(regs, 2) != question)
		return 0;
	a = bpf_map_lookup_elem(&answers, &zero);
	if (!a)
		return 0;

	gadget_process_populate(&a->process);
	a->mntns = gadget_get_current_mntns_id();
	a->discarded = gadget_should_discard_data_current();
	a->state = get_task_state(task);
	a->kernel_stack = gadget_get_kernel_stack(ctx);
	gadget_get_user_stack_from_tracepoint(ctx, &a->user_stack);
	a->base_addr_hash = gadget_get_base_addr_hash(task);

	fd = gadget_get_syscall_arg(regs, 1);
	a->whence = gadget_get_syscall_arg(regs, 3);
	a->path_length = read_full_path_of_open_file_fd(fd, a->path, sizeof(a->path));
	file = get_struct_file_for_fd(fd);
	inode = BPF_CORE_READ(file, f_inode);
	a->ctime = gadget_get_ctime_nanosec_from_inode(inode);
	gadget_inode_get_mtime(inode, &a->mtime_sec, &a->mtime_nsec);

	a->slot = get_slot_idx(number);
	a->logarithm = log2(number);
	a->hash32 = fnv_32a_init();
	fnv_32a_update_u64(&a->hash32, number);
	a->hash64 = fnv_64a_init();
	fnv_64a_update_u32(&a->hash64, number);
	fnv_64a_update_u16(&a->hash64, number);
	fnv_64a_update_u8(&a->hash64, number);

	a->kfree = has_kfree();
	a->kmem_cache_free = has_kmem_cache_free();
	a->block_rq_completion = has_block_rq_completion();
	a->old_mnt_userns = renamedata_has_old_mnt_userns_field();

	known = bpf_map_lookup_or_try_init(&tries, &none, &one);
	if (known)
		a->tries = (*known)++;
	return 0;
}

SEC("uprobe//proc/self/exe:nobody")
int on_call(struct pt_regs *ctx)
{
	struct answers *a;
	__u32 zero = 0;

	a = bpf_map_lookup_elem(&answers, &zero);
	if (a)
		gadget_get_user_stack(ctx, &a->user_stack);
	return 0;
}

SEC("perf_event/sampler")
int on_sample(struct bpf_perf_event_data *ctx)
{
	struct answers *a;
	__u32 zero = 0;

	a = bpf_map_lookup_elem(&answers, &zero);
	if (a)
		gadget_get_user_stack(ctx, &a->user_stack);
	return 0;
}

SEC("raw_tracepoint/block_rq_issue")
int on_request(struct bpf_raw_tracepoint_args *ctx)
{
	struct gendisk *disk = get_disk((void *)ctx->args[0]);
	struct bio *bio = BPF_CORE_READ((struct request *)ctx->args[0], bio);

	return disk == get_gendisk(bio);
}

SEC("tracepoint/tcp/tcp_retransmit_skb")
int on_retransmit(void *ctx)
{
	return gadget_get_tcp_retransmit_skb_skbaddr(ctx) != NULL &&
	       gadget_get_tcp_retransmit_skb_skaddr(ctx) != NULL;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
