/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __FNV1A_H
#define __FNV1A_H

#include <bpf/bpf_helpers.h>

/* FNV-1a (public domain algorithm of Fowler, Noll and Vo); values are hashed as little-endian. */

#define FNV1_32_PRIME 0x01000193
#define FNV1_32_INIT 0x811c9dc5
#define FNV1_64_PRIME 0x100000001b3ULL
#define FNV1_64_INIT 0xcbf29ce484222325ULL

#define __FNV1A_DEFINE(bits, prime, init)                                                        \
	static __always_inline __u##bits fnv_##bits##a_init(void)                                \
	{                                                                                        \
		return init;                                                                     \
	}                                                                                        \
	static __always_inline void fnv_##bits##a_update_u8(__u##bits *hash, __u8 v)             \
	{                                                                                        \
		*hash = (*hash ^ v) * prime;                                                     \
	}                                                                                        \
	static __always_inline void fnv_##bits##a_update_u16(__u##bits *hash, __u16 v)           \
	{                                                                                        \
		fnv_##bits##a_update_u8(hash, v);                                                \
		fnv_##bits##a_update_u8(hash, v >> 8);                                           \
	}                                                                                        \
	static __always_inline void fnv_##bits##a_update_u32(__u##bits *hash, __u32 v)           \
	{                                                                                        \
		fnv_##bits##a_update_u16(hash, v);                                               \
		fnv_##bits##a_update_u16(hash, v >> 16);                                         \
	}                                                                                        \
	static __always_inline void fnv_##bits##a_update_u64(__u##bits *hash, __u64 v)           \
	{                                                                                        \
		fnv_##bits##a_update_u32(hash, v);                                               \
		fnv_##bits##a_update_u32(hash, v >> 32);                                         \
	}

__FNV1A_DEFINE(32, FNV1_32_PRIME, FNV1_32_INIT)
__FNV1A_DEFINE(64, FNV1_64_PRIME, FNV1_64_INIT)

#endif
