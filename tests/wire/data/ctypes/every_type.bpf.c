/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* An event with a member of every C type, to see what a real compiler makes of it. */

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef char gadget_comm;
typedef __u32 gadget_uid;
typedef _Bool bool;

enum color { RED = 1, GREEN = 2 };
enum level { LOW = -1, HIGH = 1 };
typedef enum color color_t;
struct inner {
	__u32 a;
	char s[8];
};
typedef struct inner inner_t;
union alternatives {
	__u32 u;
	__u8 b[4];
};

struct event {
	gadget_comm comm[16];
	gadget_uid uid;
	__s8 s8;
	char c;
	unsigned char uc;
	bool flag;
	float f32;
	double f64;
	__u16 numbers[3];
	unsigned char bytes[4];
	bool flags[2];
	char texts[2][4];
	struct inner in;
	inner_t in_td;
	union alternatives uu;
	struct {
		__u32 x;
	} named;
	struct {
		__u32 anon;
	};
	enum color color_raw;
	color_t colortd_raw;
	enum level level_raw;
	__u32 bf1 : 4;
	__u32 bf2 : 4;
	void *pointer;
	struct inner many[2];
	__u32 __hidden;
	const __u32 constant;
	volatile __u64 quick;
	__int128 wide;
};

struct {
	int (*type)[27];
	int (*max_entries)[4096];
} events __attribute__((section(".maps"), used));

const void *gadget_tracer_all___events___event __attribute__((unused));
const struct event *__gadget_tracer_type_all __attribute__((unused));

const volatile char word[8] = "hello";
const void *gadget_param_word __attribute__((unused));
const volatile enum color shade = GREEN;
const void *gadget_param_shade __attribute__((unused));
const volatile float ratio = 1.5;
const void *gadget_param_ratio __attribute__((unused));

__attribute__((section("raw_tracepoint/sys_enter"), used)) int prog(void *ctx)
{
	return word[0] + (int)shade;
}

char LICENSE[] __attribute__((section("license"), used)) = "Dual BSD/GPL";
