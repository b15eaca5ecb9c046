/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __MAPS_BPF_H
#define __MAPS_BPF_H

#include <bpf/bpf_helpers.h>

#include <asm-generic/errno.h>

/* The element of "key", made from "init" when there is none; NULL when the map is full. */
static __always_inline void *bpf_map_lookup_or_try_init(void *map, const void *key,
							const void *init)
{
	void *value = bpf_map_lookup_elem(map, key);
	long err;

	if (value)
		return value;

	err = bpf_map_update_elem(map, key, init, BPF_NOEXIST);
	if (err && err != -EEXIST) /* another CPU may have been faster */
		return NULL;

	return bpf_map_lookup_elem(map, key);
}

#endif
