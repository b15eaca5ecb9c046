/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __BITS_BPF_H
#define __BITS_BPF_H

/* Floor of the binary logarithm; 0 for 0. */
static __always_inline u64 log2(u32 v)
{
	u64 rest = v, result = 0, shift;

	shift = (rest > 0xffff) << 4;
	rest >>= shift;
	result |= shift;
	shift = (rest > 0xff) << 3;
	rest >>= shift;
	result |= shift;
	shift = (rest > 0xf) << 2;
	rest >>= shift;
	result |= shift;
	shift = (rest > 0x3) << 1;
	rest >>= shift;
	result |= shift;

	return result | (rest >> 1);
}

/* Slot of an exponential histogram: slot i holds 2^(i-1) to 2^i - 1, slot 0 holds 0. */
static __always_inline u64 get_slot_idx(u64 v)
{
	u64 slot = 0;
	u32 high = v >> 32;

	if (v)
		slot = high ? log2(high) + 33 : log2((u32)v) + 1;
	/*
	 * Hides where the number comes from: or clang checks what is before the addition and uses
	 * what is behind it, and only younger verifiers connect the two.
	 */
	asm volatile("" : "+r"(slot));
	return slot;
}

#endif
