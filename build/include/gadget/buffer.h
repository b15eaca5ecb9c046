/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __BUFFER_BPF_H
#define __BUFFER_BPF_H

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include <gadget/fairness.h>

/*
 * One way out for events: a ring buffer, or, on kernels without it, a perf event array into which
 * user space turns the marked map at load time. CO-RE then removes the calls that such a kernel
 * does not know.
 *
 * Every sample that the ring buffer refuses is counted. GADGET_TRACER_MAP counts in the per-CPU
 * array "<name>_lost_samples", which user space of other gadget runners knows too.
 * GADGET_TRACER_MAP_GLOBAL_LOSS counts in the global variable "gadget_lost_samples_<name>" and
 * adds no map to the object. What a budget keeps back (fairness.h) is no loss: it is counted apart.
 *
 * With mntns_filter.h, included before GADGET_TRACER_MAP, losses are also counted by mount namespace
 * (loss_table.h).
 */

/* Defined otherwise by mntns_filter.h, which may be included before or after this file. */
#ifndef __GADGET_LOSS_TABLE
#define __GADGET_LOSS_TABLE(name)                                                                \
	static __always_inline __attribute__((unused))                                           \
	void name##_count_lost_by_mntns(void)                                                    \
	{                                                                                        \
	}
#endif

#ifndef GADGET_MAX_EVENT_SIZE
#define GADGET_MAX_EVENT_SIZE 10240
#endif

/* Of an array; a key in the scope of a caller would keep its place on the stack for longer. */
static __always_inline void *__gadget_only_element(void *array)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(array, &zero);
}

#define __GADGET_RING_MAP(name, size)                                                            \
	struct {                                                                                 \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                              \
		__uint(max_entries, size);                                                       \
	} name SEC(".maps");                                                                     \
	const void *gadget_map_tracer_##name __attribute__((unused));

#define GADGET_TRACER_MAP(name, size)                                                            \
	__GADGET_RING_MAP(name, size)                                                            \
	__GADGET_BUDGET(name)                                                                    \
	__GADGET_LOSS_TABLE(name)                                                                \
	struct {                                                                                 \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                         \
		__uint(max_entries, 1);                                                          \
		__type(key, __u32);                                                              \
		__type(value, __u64);                                                            \
	} name##_lost_samples SEC(".maps");                                                      \
	static __always_inline __attribute__((unused))                                           \
	void name##_count_lost_sample(void)                                                      \
	{                                                                                        \
		__u64 *lost;                                                                     \
                                                                                                 \
		/* First: user space takes what it finds in the table off the sum of all. */     \
		name##_count_lost_by_mntns();                                                    \
		lost = __gadget_only_element(&name##_lost_samples);                              \
		if (lost)                                                                        \
			__sync_fetch_and_add(lost, 1);                                           \
	}

#define GADGET_TRACER_MAP_GLOBAL_LOSS(name, size)                                                \
	__GADGET_RING_MAP(name, size)                                                            \
	__GADGET_BUDGET(name)                                                                    \
	__GADGET_LOSS_TABLE(name)                                                                \
	__u64 gadget_lost_samples_##name = 0;                                                    \
	static __always_inline __attribute__((unused))                                           \
	void name##_count_lost_sample(void)                                                      \
	{                                                                                        \
		name##_count_lost_by_mntns();                                                    \
		__sync_fetch_and_add(&gadget_lost_samples_##name, 1);                            \
	}

/* An event that belongs into "map" could not even be started. */
#define gadget_count_lost_sample(map) (map##_count_lost_sample)()

/*
 * gadget_output_buf(ctx, &map, event, size): copies an event out. 0, or the error of the perf
 * buffer; a full ring buffer and a spent budget are no errors, they are counted.
 */
#define gadget_output_buf(ctx, map, buf, size)                                                   \
	({                                                                                       \
		long __gadget_ret = 0;                                                           \
		if (!(map##_within_budget)()) {                                                  \
			/* counted */                                                            \
		} else if (bpf_core_enum_value_exists(enum bpf_func_id,                          \
						      BPF_FUNC_ringbuf_output)) {                \
			if (bpf_ringbuf_output(map, buf, size, 0))                               \
				gadget_count_lost_sample(map);                                   \
		} else {                                                                         \
			__gadget_ret =                                                           \
				bpf_perf_event_output(ctx, map, BPF_F_CURRENT_CPU, buf, size);   \
		}                                                                                \
		__gadget_ret;                                                                    \
	})

#ifndef GADGET_NO_BUF_RESERVE

/* Where an event is put together on kernels without a ring buffer. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, GADGET_MAX_EVENT_SIZE);
} gadget_heap SEC(".maps");

/*
 * gadget_reserve_buf(&map, size): room for an event, to be given to gadget_submit_buf or
 * gadget_discard_buf; NULL when there is none. "size" is a constant of at most
 * GADGET_MAX_EVENT_SIZE.
 */
#define gadget_reserve_buf(map, size)                                                            \
	({                                                                                       \
		void *__gadget_buf = 0;                                                          \
		if (!(map##_within_budget)()) {                                                  \
			/* counted */                                                            \
		} else if (!bpf_core_enum_value_exists(enum bpf_func_id,                         \
						       BPF_FUNC_ringbuf_reserve)) {              \
			__gadget_buf = __gadget_only_element(&gadget_heap);                      \
		} else {                                                                         \
			__gadget_buf = bpf_ringbuf_reserve(map, size, 0);                        \
			if (!__gadget_buf)                                                       \
				gadget_count_lost_sample(map);                                   \
		}                                                                                \
		__gadget_buf;                                                                    \
	})

static __always_inline void gadget_discard_buf(void *buf)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_ringbuf_discard))
		bpf_ringbuf_discard(buf, 0);
}

static __always_inline long gadget_submit_buf(void *ctx, void *map, void *buf, __u64 size)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_ringbuf_submit)) {
		bpf_ringbuf_submit(buf, 0);
		return 0;
	}
	return bpf_perf_event_output(ctx, map, BPF_F_CURRENT_CPU, buf, size);
}

#endif

#endif
