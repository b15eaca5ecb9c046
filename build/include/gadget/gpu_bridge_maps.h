/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __GPU_BRIDGE_MAPS_H
#define __GPU_BRIDGE_MAPS_H

#include <bpf/bpf_helpers.h>

#include <gadget/gpu_types.h>

/*
 * The maps of the GPU bridge, shared by their names below /sys/fs/bpf. They are empty where no
 * bridge runs. Define GPU_BRIDGE_WANT_META, _DEVICE, _PER_PID, _PER_PID_PER_DEVICE or _ALL before
 * this header to get what a program reads.
 */

#ifdef GPU_BRIDGE_WANT_ALL
#define GPU_BRIDGE_WANT_META
#define GPU_BRIDGE_WANT_DEVICE
#define GPU_BRIDGE_WANT_PER_PID
#define GPU_BRIDGE_WANT_PER_PID_PER_DEVICE
#endif

#define __GPU_BRIDGE_MAX_PROCESSES 4096

#ifdef GPU_BRIDGE_WANT_META
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gpu_meta);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gpu_meta SEC(".maps");

/* The bridge's state, or NULL when it is older than so many ms. */
static __always_inline struct gpu_meta *gpu_meta_fresh(__u64 now_boot_ns,
						       __u64 stale_threshold_ms)
{
	__u32 zero = 0;
	struct gpu_meta *meta = bpf_map_lookup_elem(&gpu_meta, &zero);

	if (!meta || !meta->last_update_boottime_ns)
		return 0;
	/* An update may be later than the caller's clock reading. */
	if (meta->last_update_boottime_ns < now_boot_ns &&
	    now_boot_ns - meta->last_update_boottime_ns > stale_threshold_ms * 1000000ULL)
		return 0;
	return meta;
}
#endif

#ifdef GPU_BRIDGE_WANT_DEVICE
/* By the device's number. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GPU_MAX_DEVICES);
	__type(key, __u32);
	__type(value, struct gpu_device_metrics);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gpu_device SEC(".maps");
#endif

#ifdef GPU_BRIDGE_WANT_PER_PID
/* By the kernel's tgid. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, __GPU_BRIDGE_MAX_PROCESSES);
	__type(key, __u32);
	__type(value, struct gpu_pid_metrics_aggregated);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gpu_per_pid SEC(".maps");

/* The process, if it holds at least so many bytes of GPU memory; else NULL. */
static __always_inline struct gpu_pid_metrics_aggregated *gpu_pid_holder(__u32 tgid,
									 __u64 min_bytes)
{
	struct gpu_pid_metrics_aggregated *process = bpf_map_lookup_elem(&gpu_per_pid, &tgid);

	return process && process->used_gpu_memory_total >= min_bytes ? process : 0;
}
#endif

#ifdef GPU_BRIDGE_WANT_PER_PID_PER_DEVICE
/* By (tgid << 32) | device. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, __GPU_BRIDGE_MAX_PROCESSES);
	__type(key, __u64);
	__type(value, struct gpu_pid_metrics);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gpu_per_pid_per_device SEC(".maps");
#endif

#endif
