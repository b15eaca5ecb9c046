/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __MACROS_H
#define __MACROS_H

#include <gadget/compiler.h>

/*
 * Markers: user space finds them by the names of their BTF variables, which are global, of type
 * "const void *" and never read by a program. "___" separates the parts of a name, so that the
 * parts themselves may hold single and double underscores. The macros of these headers that declare
 * something end with a semicolon: sources may leave out their own.
 */
#define __GADGET_MARKER(symbol) const void *symbol __attribute__((unused));

/* Keeps the BTF of a struct that no program may happen to mention. */
#define __GADGET_KEEP_TYPE(type, symbol) const struct type *symbol __attribute__((unused));

/* Data source "name": events of "struct event_type" come out of the ring buffer "map_name". */
#define GADGET_TRACER(name, map_name, event_type)                                                \
	__GADGET_MARKER(gadget_tracer_##name##___##map_name##___##event_type)                    \
	__GADGET_KEEP_TYPE(event_type, __gadget_tracer_type_##name)

/* The "const volatile" global "name" is a parameter of the gadget. */
#define GADGET_PARAM(name) __GADGET_MARKER(gadget_param_##name)

#define __GADGET_ITER_1(name, type, p1) __GADGET_MARKER(gadget_iter_##name##___##type##___##p1)
#define __GADGET_ITER_2(name, type, p1, p2)                                                      \
	__GADGET_MARKER(gadget_iter_##name##___##type##___##p1##___##p2)
#define __GADGET_ITER_3(name, type, p1, p2, p3)                                                  \
	__GADGET_MARKER(gadget_iter_##name##___##type##___##p1##___##p2##___##p3)
#define __GADGET_ITER_PICK(_1, _2, _3, picked, ...) picked

/*
 * Data source "name": an array of "struct type", the joined output of one to three iterator
 * programs.
 */
#define GADGET_ITER(name, type, ...)                                                             \
	__GADGET_ITER_PICK(__VA_ARGS__, __GADGET_ITER_3, __GADGET_ITER_2, __GADGET_ITER_1, )     \
	(name, type, __VA_ARGS__)                                                                \
	__GADGET_KEEP_TYPE(type, unusedevent_##name##___##type)

/* The former name of GADGET_ITER. */
#define GADGET_SNAPSHOTTER(name, type, ...) GADGET_ITER(name, type, __VA_ARGS__)

/* Data source "name": the elements of the hash map "mapname", fetched at an interval. */
#define GADGET_MAPITER(name, mapname) __GADGET_MARKER(gadget_mapiter_##name##___##mapname)

/* The map that the program "prog" (section iter/bpf_map_elem) walks over. */
#define GADGET_ITER_TARGET_MAP(prog, map)                                                        \
	__GADGET_MARKER(gadget_mapelem_iter_target_##prog##___##map)

/* The sockmap or sockhash that the program "prog" (sk_skb or sk_msg) is attached to. */
#define GADGET_SK_TARGET_MAP(prog, map) __GADGET_MARKER(gadget_sk_prog_target_##prog##___##map)

#endif
