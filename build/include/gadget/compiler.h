/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __GADGET_COMPILER_H
#define __GADGET_COMPILER_H

/*
 * clang 14 turns every __builtin_memcmp() into a call of memcmp(), which BPF programs do not have;
 * the call finds this definition. clang 15 and later compile the comparison inline.
 */
#if defined(__clang__) && __clang_major__ < 15
static inline __attribute__((always_inline)) int memcmp(const void *a, const void *b,
							unsigned long size)
{
	const unsigned char *left = a, *right = b;

	for (unsigned long i = 0; i < size; i++) {
		if (left[i] != right[i])
			return left[i] - right[i];
	}
	return 0;
}
#endif

#endif
