// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Members of the types, names and values of an event that ig has printed:
 * tests/kernel/test_reference_types.py compares.
 */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>

#include <gadget/buffer.h>
#include <gadget/common.h>
#include <gadget/filter.h>
#include <gadget/macros.h>
#include <gadget/types.h>

#define FOUR_ON_LOOPBACK 0x0100007f

enum color { RED = 1, GREEN = 2 };
enum perm_set { PNONE = 0, R = 1, W = 2, X = 4 };
enum wide { BIG = 1ULL << 40 };
typedef enum color color_t;

struct inner {
	__u32 a;
	char s[8];
};
typedef struct inner inner_t;

union words {
	__u32 u;
	__u8 b[4];
};

struct event {
	gadget_timestamp timestamp_raw;
	gadget_mntns_id mntns_id;
	struct gadget_process proc;

	__s8 i8;
	__s16 i16;
	__s32 i32;
	__s64 i64;
	__u8 u8;
	__u16 u16;
	__u32 u32;
	__u64 u64;
	const __u32 cu32;
	__int128 i128;
	float f32;
	double f64;
	bool flag;
	char c;
	unsigned char uc;
	void *ptr;

	char str[8];
	unsigned char ustr[8];
	char strs[2][4];
	bool barr[2];
	__u32 arr[4];
	__u64 arr64[2];
	struct inner inarr[2];

	struct inner in;
	inner_t in_td;
	union words uu;
	struct {
		__u32 x;
	} named_anon;
	struct {
		__u32 anon_y;
	};
	union {
		__u32 anon_u1;
		__u16 anon_u2;
	};
	__u32 bf1 : 4;
	__u32 bf2 : 4;
	__u32 __hid;

	enum color color_raw;
	color_t colortd_raw;
	enum color noraw;
	enum perm_set perm_raw;
	enum perm_set perm0_raw;
	enum wide c64_raw;

	gadget_signal sig_raw;
	gadget_errno err_raw;
	gadget_errno err_noraw;
	gadget_syscall sys_raw;
	gadget_file_mode mode_raw;
	gadget_file_flags ff_raw;
	gadget_bytes by_raw;
	gadget_duration d1_raw;
	gadget_duration d2_raw;
	gadget_duration d3_raw;
	gadget_duration d4_raw;
	gadget_uid uid_raw2_raw;
	gadget_counter__u32 cnt;
	struct gadget_l3endpoint_t l3;
	struct gadget_l4endpoint_t l4;
	struct gadget_l4endpoint_t l6;
	gadget_netns_id netns_id;
};

const volatile __u32 p_u32 = 7;
GADGET_PARAM(p_u32);

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(bt, events, event);

static __always_inline void plain_members(struct event *e)
{
	e->i8 = -1;
	e->i16 = -2;
	e->i32 = -3;
	e->i64 = -4;
	e->u8 = 200;
	e->u16 = 60000;
	e->u32 = 4000000000U;
	e->u64 = ~0ULL;
	/* Programs have no instructions for real numbers, only their bytes. */
	*(volatile __u32 *)&e->f32 = 0x3fc00000;
	*(volatile __u64 *)&e->f64 = 0x3ff8000000000000ULL;
	e->flag = true;
	e->c = 'A';
	e->uc = 'B';
	e->ptr = (void *)0x1234;
	e->str[0] = 'h';
	e->str[1] = 'i';
	e->ustr[0] = 'u';
	e->strs[0][0] = 'x';
	e->barr[0] = true;
	e->arr[0] = 1;
	e->arr[3] = 4;
	e->arr64[0] = ~0ULL;
}

static __always_inline void nested_members(struct event *e)
{
	e->in.a = 5;
	e->in.s[0] = 'q';
	e->in_td.a = 6;
	e->uu.u = 0x01020304;
	e->named_anon.x = 9;
	e->anon_y = 10;
	e->anon_u1 = 0x11;
	e->bf1 = 3;
	e->bf2 = 2;
	e->__hid = 1;
	e->color_raw = GREEN;
	e->colortd_raw = GREEN;
	e->noraw = 7;
	e->perm_raw = R | X;
	e->perm0_raw = PNONE;
	e->c64_raw = BIG;
}

static __always_inline void formatted_members(struct event *e)
{
	e->sig_raw = 99;
	e->err_raw = 2;
	e->err_noraw = 2;
	e->sys_raw = 0;
	e->mode_raw = 0100644;
	e->ff_raw = 02101 | 02000000;
	e->by_raw = 123456789;
	e->d1_raw = 999;
	e->d2_raw = 1500;
	e->d3_raw = 1500000;
	e->d4_raw = 90061500000000ULL;
	e->uid_raw2_raw = 12345;
	e->cnt = p_u32;
	e->l3.addr_raw.v4 = FOUR_ON_LOOPBACK;
	e->l3.version = 4;
	e->l4.addr_raw.v4 = FOUR_ON_LOOPBACK;
	e->l4.version = 4;
	e->l4.port = 80;
	e->l4.proto_raw = 6;
	e->l6.addr_raw.v6[15] = 1;
	e->l6.version = 6;
	e->l6.port = 443;
	e->l6.proto_raw = 250;
}

SEC("tracepoint/sched/sched_process_exit")
int on_exit(void *ctx)
{
	struct event *e;

	if (gadget_should_discard_data_current())
		return 0;
	e = gadget_reserve_buf(&events, sizeof(*e));
	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->timestamp_raw = bpf_ktime_get_boot_ns();
	gadget_process_populate(&e->proc);
	e->mntns_id = e->proc.mntns_id;
	plain_members(e);
	nested_members(e);
	formatted_members(e);
	gadget_submit_buf(ctx, &events, e, sizeof(*e));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
