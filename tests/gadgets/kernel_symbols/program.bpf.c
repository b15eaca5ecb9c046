// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A symbol by iterator, and by the address that the loader puts in (/proc/kallsyms). */
#include <vmlinux.h>

#include <bpf/bpf_helpers.h>

#include <gadget/macros.h>
#include <gadget/types.h>

#define NAME_LENGTH 32

struct symbol_entry {
	__u64 address;
	__u64 absent;
	bool resolved;
	char name[NAME_LENGTH];
	char type[2];
};

const volatile char symbol[NAME_LENGTH] = "vfs_read";
GADGET_PARAM(symbol);

extern const void vfs_read __ksym;
extern const void ig_py_no_such_symbol __ksym __weak;

GADGET_ITER(symbols, symbol_entry, on_symbol);

SEC("iter/ksym")
int on_symbol(struct bpf_iter__ksym *ctx)
{
	struct kallsym_iter *iter = ctx->ksym;
	struct symbol_entry entry = {};
	int i;

	if (!iter)
		return 0;
	bpf_probe_read_kernel_str(entry.name, sizeof(entry.name), iter->name);
	for (i = 0; i < NAME_LENGTH; i++) {
		if (entry.name[i] != symbol[i])
			return 0;
		if (!entry.name[i])
			break;
	}
	entry.address = iter->value;
	entry.absent = (__u64)&ig_py_no_such_symbol;
	entry.resolved = entry.address == (__u64)&vfs_read;
	entry.type[0] = iter->type;
	bpf_seq_write(ctx->meta->seq, &entry, sizeof(entry));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
