// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One event an exiting process, with a member of each kind of C type, what became of each kind of
 * parameter, and bytes behind the struct.
 */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>

#include <gadget/buffer.h>
#include <gadget/common.h>
#include <gadget/filter.h>
#include <gadget/macros.h>
#include <gadget/types.h>

#define TAIL 4

enum colour { BLUE = 1, GREEN = 2 };
enum rights_set { READ = 1, WRITE = 2, RUN = 4 };
typedef enum colour colour_t;

typedef struct {
	__u32 number;
	char text[4];
} pair_t;

struct event {
	gadget_timestamp time_raw;
	struct gadget_process proc;
	bool yes;
	bool flags[2];
	char texts[2][4];
	__u64 large[2];
	__s16 negative[2];
	pair_t pair;
	struct {
		__u32 in_struct;
	};
	union {
		__u32 in_union;
		__u16 half;
	};
	colour_t colour_raw;
	enum rights_set rights_raw;
	__u32 low : 4;
	__u32 high : 4;
	__s32 below_zero : 3;
	float single;
	double twice;
	gadget_signal sig_raw;
	gadget_errno err_raw;
	gadget_syscall call_raw;
	gadget_file_mode mode_raw;
	gadget_file_flags opened_raw;
	gadget_bytes size_raw;
	gadget_duration took_raw;
	gadget_uid owner_raw;
	struct gadget_l3endpoint_t ip;
	struct gadget_l4endpoint_t end;
	/* What the parameters say. */
	char p_text[8];
	float p_real;
	__s8 p_small;
	colour_t p_colour_raw;
	struct gadget_l3endpoint_t p_ip;
	__u32 tail_length;
};

const volatile char p_text[8] = "initial";
GADGET_PARAM(p_text);
const volatile float p_real = 1.5;
GADGET_PARAM(p_real);
const volatile __s8 p_small = -7;
GADGET_PARAM(p_small);
const volatile enum colour p_colour = GREEN;
GADGET_PARAM(p_colour);
const volatile struct gadget_l3endpoint_t p_ip = {};
GADGET_PARAM(p_ip);

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(types, events, event);

struct whole {
	struct event event;
	__u8 tail[16];
};

SEC("tracepoint/sched/sched_process_exit")
int on_exit(void *ctx)
{
	struct whole *whole;
	struct event *e;
	int i;

	if (gadget_should_discard_data_current())
		return 0;
	whole = gadget_reserve_buf(&events, sizeof(*whole));
	if (!whole)
		return 0;
	__builtin_memset(whole, 0, sizeof(*whole));
	e = &whole->event;
	gadget_process_populate(&e->proc);
	e->yes = e->flags[1] = true;
	e->texts[0][0] = 'a';
	__builtin_memcpy(e->texts[1], "full", 4);
	e->large[0] = ~0ULL;
	e->negative[1] = -2;
	e->pair.number = 5;
	e->pair.text[0] = 'p';
	e->in_struct = 6;
	e->in_union = 0x10007;
	e->colour_raw = BLUE;
	e->rights_raw = READ | RUN;
	e->low = 3;
	e->high = 2;
	e->below_zero = -1;
	/* Programs have no instructions for real numbers, only their bytes. */
	*(__u32 *)&e->single = 0x3fc00000;
	*(__u64 *)&e->twice = 0xc002000000000000ULL;
	e->sig_raw = 9;
	e->err_raw = 2;
	e->call_raw = ~0ULL;
	e->mode_raw = 0100644;
	e->opened_raw = 02101 | 02000000;
	e->size_raw = 123456789;
	e->took_raw = 1500000;
	e->owner_raw = 0;
	e->ip.addr_raw.v4 = 0x0100007f;
	e->ip.version = 4;
	e->end.addr_raw.v6[15] = 1;
	e->end.version = 6;
	e->end.port = 443;
	e->end.proto_raw = 17;
	for (i = 0; i < sizeof(e->p_text); i++)
		e->p_text[i] = p_text[i];
	*(__u32 *)&e->p_real = *(const volatile __u32 *)&p_real;
	e->p_small = p_small;
	e->p_colour_raw = p_colour;
	e->p_ip.addr_raw.v4 = p_ip.addr_raw.v4;
	e->p_ip.version = p_ip.version;
	e->tail_length = TAIL;
	whole->tail[0] = 0xca;
	whole->tail[TAIL - 1] = 0xfe;
	gadget_submit_buf(ctx, &events, whole, sizeof(*whole));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
