/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sizes, offsets and values that programs and user space agree on. It only has to compile. */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define GADGET_TYPE_TRACING
#define GPU_BRIDGE_WANT_ALL
#include <gadget/bits.bpf.h>
#include <gadget/buffer.h>
#include <gadget/common.h>
#include <gadget/core_fixes.bpf.h>
#include <gadget/filesystem.h>
#include <gadget/filter.h>
#include <gadget/fnv1a.h>
#include <gadget/gpu_bridge_maps.h>
#include <gadget/kernel_stack_map.h>
#include <gadget/maps.bpf.h>
#include <gadget/sockets-map.h>
#include <gadget/user_stack_map.h>

#define SAME(a, b) _Static_assert((a) == (b), #a " is " #b)
#define AT(type, member, offset) SAME(__builtin_offsetof(struct type, member), offset)
#define IS(type, is) _Static_assert(__builtin_types_compatible_p(type, is), #type " is " #is)

IS(gadget_mntns_id, __u64);
IS(gadget_netns_id, __u32);
IS(gadget_timestamp, __u64);
IS(gadget_duration, __u64);
IS(gadget_bytes, __u64);
IS(gadget_signal, __u32);
IS(gadget_errno, __u32);
IS(gadget_syscall, __u64);
IS(gadget_file_mode, __u32);
IS(gadget_file_flags, __u32);
IS(gadget_kernel_stack, __u32);
IS(gadget_uid, __u32);
IS(gadget_gid, __u32);
IS(gadget_pid, __u32);
IS(gadget_ppid, __u32);
IS(gadget_tid, __u32);
IS(gadget_ptid, __u32);
IS(gadget_comm, char);
IS(gadget_pcomm, char);
IS(gadget_counter__u32, __u32);
IS(gadget_counter__u64, __u64);
IS(gadget_gauge__u32, __u32);
IS(gadget_gauge__u64, __u64);
IS(gadget_histogram_slot__u32, __u32);
IS(gadget_histogram_slot__u64, __u64);

SAME(sizeof(union gadget_ip_addr_t), 16);
SAME(_Alignof(union gadget_ip_addr_t), 16);
SAME(sizeof(((union gadget_ip_addr_t *)0)->v6), 16);
SAME(sizeof(((union gadget_ip_addr_t *)0)->v4), 4);

SAME(sizeof(struct gadget_l3endpoint_t), 32);
AT(gadget_l3endpoint_t, addr_raw, 0);
AT(gadget_l3endpoint_t, version, 16);

SAME(sizeof(struct gadget_l4endpoint_t), 32);
AT(gadget_l4endpoint_t, addr_raw, 0);
AT(gadget_l4endpoint_t, port, 16);
AT(gadget_l4endpoint_t, proto_raw, 18);
AT(gadget_l4endpoint_t, version, 20);

struct after_u32 {
	__u32 first;
	struct gadget_l4endpoint_t endpoint;
};
AT(after_u32, endpoint, 16);
SAME(sizeof(struct after_u32), 48);

SAME(sizeof(struct gadget_creds), 8);
AT(gadget_creds, uid, 0);
AT(gadget_creds, gid, 4);

SAME(sizeof(struct gadget_parent), 24);
AT(gadget_parent, comm, 0);
AT(gadget_parent, pid, 16);
AT(gadget_parent, tid, 20);

SAME(sizeof(struct gadget_process), 64);
AT(gadget_process, comm, 0);
AT(gadget_process, pid, 16);
AT(gadget_process, tid, 20);
AT(gadget_process, mntns_id, 24);
AT(gadget_process, creds, 32);
AT(gadget_process, parent, 40);

SAME(sizeof(struct gadget_user_stack), 72);
AT(gadget_user_stack, major, 0);
AT(gadget_user_stack, minor, 4);
AT(gadget_user_stack, inode, 8);
AT(gadget_user_stack, mtime_sec, 16);
AT(gadget_user_stack, mtime_nsec, 24);
AT(gadget_user_stack, base_addr_hash, 28);
AT(gadget_user_stack, stack_id, 32);
AT(gadget_user_stack, tgid_level0, 36);
AT(gadget_user_stack, pid_level0, 40);
AT(gadget_user_stack, pidns_level0, 44);
AT(gadget_user_stack, pid_level1, 48);
AT(gadget_user_stack, pidns_level1, 52);
AT(gadget_user_stack, otel_correlation_id, 56);
AT(gadget_user_stack, boot_timestamp, 64);

SAME(sizeof(struct gadget_socket_value), 8280);
AT(gadget_socket_value, mntns, 0);
AT(gadget_socket_value, pid_tgid, 8);
AT(gadget_socket_value, uid_gid, 16);
AT(gadget_socket_value, task, 24);
AT(gadget_socket_value, ptask, 40);
AT(gadget_socket_value, sock, 56);
AT(gadget_socket_value, deletion_timestamp, 64);
AT(gadget_socket_value, ppid, 72);
AT(gadget_socket_value, ptid, 76);
AT(gadget_socket_value, ipv6only, 80);
AT(gadget_socket_value, optional_fields_start, 88);
AT(gadget_socket_value, cwd, 88);
AT(gadget_socket_value, exepath, 4184);

SAME(sizeof(struct gadget_socket_key), 12);
AT(gadget_socket_key, netns, 0);
AT(gadget_socket_key, family, 4);
AT(gadget_socket_key, proto, 6);
AT(gadget_socket_key, port, 8);

SAME(sizeof(struct gpu_meta), 32);
AT(gpu_meta, schema_version, 0);
AT(gpu_meta, n_devices, 4);
AT(gpu_meta, last_update_boottime_ns, 8);
AT(gpu_meta, helper_pid, 16);
AT(gpu_meta, clock_offset_ns, 24);

SAME(sizeof(struct gpu_device_metrics), 128);
AT(gpu_device_metrics, sm_util_pct, 8);
AT(gpu_device_metrics, mem_total, 16);
AT(gpu_device_metrics, temp_c, 40);
AT(gpu_device_metrics, throttle_reasons, 56);
AT(gpu_device_metrics, enc_util_pct, 80);
AT(gpu_device_metrics, nvlink_tx_kbps, 88);
AT(gpu_device_metrics, ecc_uncorrected_total, 112);
AT(gpu_device_metrics, compute_mode, 124);

SAME(sizeof(struct gpu_pid_metrics), 40);
AT(gpu_pid_metrics, used_gpu_memory, 8);
AT(gpu_pid_metrics, dec_util_pct, 28);
AT(gpu_pid_metrics, gpu_device, 32);
AT(gpu_pid_metrics, mig_instance, 33);

SAME(sizeof(struct gpu_pid_metrics_aggregated), 32);
AT(gpu_pid_metrics_aggregated, used_gpu_memory_total, 8);
AT(gpu_pid_metrics_aggregated, mem_util_pct_max, 20);
AT(gpu_pid_metrics_aggregated, gpu_device_primary, 24);
AT(gpu_pid_metrics_aggregated, device_count, 25);

SAME(TASK_COMM_LEN, 16);
SAME(GADGET_SE_PATH_MAX, 4096);
SAME(GADGET_PATH_MAX, 512);
SAME(PATH_MAX, 4096);
SAME(sizeof(buf_t), 32768);
SAME(GADGET_MAX_EVENT_SIZE, 10240);
SAME(GADGET_MAX_SOCKETS, 16384);
SAME(GADGET_INVALID_ID, 0xffffffff);
SAME(I_CTIME_QUERIED, 0x80000000);
SAME(GADGET_KERNEL_MAX_STACK_DEPTH, 127);
SAME(GADGET_KERNEL_STACK_MAP_MAX_ENTRIES, 10000);
SAME(GPU_SCHEMA_VERSION, 1);
SAME(GPU_MAX_DEVICES, 16);
SAME(GPU_DEVICE_PRIMARY_MULTI, 255);
SAME(FNV1_32_PRIME, 0x01000193);
SAME(FNV1_32_INIT, 0x811c9dc5);
SAME(FNV1_64_PRIME, 0x100000001b3);
SAME(FNV1_64_INIT, 0xcbf29ce484222325);

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(things, events, after_u32);

char LICENSE[] SEC("license") = "Dual BSD/GPL";
