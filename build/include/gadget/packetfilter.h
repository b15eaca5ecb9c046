/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef PACKETFILTER_H
#define PACKETFILTER_H

#include <bpf/bpf_helpers.h>

/*
 * A filter for packets that the user writes as for tcpdump. User space puts its code in front of
 * the first instruction of this function, for the registers that the arguments arrive in: the
 * packet from "data" (R4) to "data_end" (R5), with R1 to R3 free. Without a filter every packet
 * that is not empty matches. The body has to use all arguments, or the compiler drops some.
 */
#define GADGET_PF(name)                                                                          \
	static __noinline bool gadget_pf_##name(void *_skb, void *__skb, void *___skb,           \
						void *data, void *data_end)                      \
	{                                                                                        \
		return data != data_end && _skb == __skb && __skb == ___skb;                     \
	}

#define __GADGET_PF_CALL(name, skb, data, data_end)                                              \
	gadget_pf_##name((void *)(skb), (void *)(skb), (void *)(skb), (void *)(data),            \
			 (void *)(data_end))
#define __GADGET_PF_NAMED(name, skb, data, data_end) __GADGET_PF_CALL(name, skb, data, data_end)
#define __GADGET_PF_UNNAMED(skb, data, data_end) __GADGET_PF_CALL(, skb, data, data_end)
#define __GADGET_PF_WRONG(...)                                                                   \
	({                                                                                       \
		_Static_assert(0, "gadget_pf_matches([name,] skb, data, data_end)");             \
		0;                                                                               \
	})
#define __GADGET_PF_PICK(_1, _2, _3, _4, _5, _6, picked, ...) picked

/* gadget_pf_matches([name,] skb, data, data_end): does the packet pass the filter? */
#define gadget_pf_matches(...)                                                                   \
	__GADGET_PF_PICK(__VA_ARGS__, __GADGET_PF_WRONG, __GADGET_PF_WRONG, __GADGET_PF_NAMED,   \
			 __GADGET_PF_UNNAMED, __GADGET_PF_WRONG, __GADGET_PF_WRONG, )            \
	(__VA_ARGS__)

#endif
