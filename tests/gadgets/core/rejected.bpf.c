// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// One program that any verifier accepts and one that none does.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("raw_tracepoint/sys_enter")
int fine(void *ctx)
{
	return 0;
}

SEC("raw_tracepoint/sys_exit")
int reads_nowhere(void *ctx)
{
	return *(volatile int *)0x1234;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
