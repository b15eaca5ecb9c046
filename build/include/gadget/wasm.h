/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __GADGET_WASM_H
#define __GADGET_WASM_H

/*
 * For wasm modules of gadgets in C (docs/wasm-guests.md): the functions that the runner offers, by
 * their names in its module "ig", and what C needs to call them. No C library is needed.
 *
 * Handles (data sources, fields, data, maps) are numbers from 1 on; 0 is none. Functions that
 * return an int32_t without another meaning return 0 when they did what was asked.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GADGET_API_VERSION 1

/* A function that the runner calls: gadgetInit, gadgetPreStart, gadgetStart, gadgetStop,
 * gadgetPostStop. Each takes nothing and returns an int32_t; other than 0 ends the run. */
#define GADGET_EXPORT(name) __attribute__((export_name(#name))) int32_t name(void)

#define __gadget_import(name) \
	extern __attribute__((import_module("ig"), import_name(#name)))

/* A buffer or text in this module's memory: length above, address below. */
typedef uint64_t gadget_buf_t;

typedef uint32_t gadget_handle_t;

enum gadget_log_level {
	GADGET_LOG_ERROR = 0,
	GADGET_LOG_WARN = 1,
	GADGET_LOG_INFO = 2,
	GADGET_LOG_DEBUG = 3,
	GADGET_LOG_TRACE = 4,
};

enum gadget_kind {
	GADGET_KIND_BOOL = 1,
	GADGET_KIND_INT8 = 2,
	GADGET_KIND_INT16 = 3,
	GADGET_KIND_INT32 = 4,
	GADGET_KIND_INT64 = 5,
	GADGET_KIND_UINT8 = 6,
	GADGET_KIND_UINT16 = 7,
	GADGET_KIND_UINT32 = 8,
	GADGET_KIND_UINT64 = 9,
	GADGET_KIND_FLOAT32 = 10,
	GADGET_KIND_FLOAT64 = 11,
	GADGET_KIND_STRING = 12,
	GADGET_KIND_CSTRING = 13,
	GADGET_KIND_BYTES = 14,
};

enum gadget_data_source_type {
	GADGET_DATA_SOURCE_SINGLE = 1,
	GADGET_DATA_SOURCE_ARRAY = 2,
};

enum gadget_subscription {
	/* One call for each event, of arrays too. */
	GADGET_SUBSCRIBE_DATA = 1,
	/* One call for each array. */
	GADGET_SUBSCRIBE_ARRAY = 2,
	/* One call for each packet, which is an event or an array. */
	GADGET_SUBSCRIBE_PACKET = 3,
};

/* Log. */
__gadget_import(gadgetLog) void gadgetLog(uint32_t level, gadget_buf_t message);
/* 1 when a message of this level is shown. */
__gadget_import(gadgetShouldLog) uint32_t gadgetShouldLog(uint32_t level);

/* Data sources: in gadgetInit, before events are shown. 0: there is none, or it cannot be made. */
__gadget_import(newDataSource) gadget_handle_t newDataSource(gadget_buf_t name, uint32_t type);
__gadget_import(getDataSource) gadget_handle_t getDataSource(gadget_buf_t name);
/* The runner calls dataSourceCallback(id, ...), after subscribers of lower priority. */
__gadget_import(dataSourceSubscribe) int32_t
dataSourceSubscribe(gadget_handle_t source, uint32_t subscription, int32_t priority, uint64_t id);
__gadget_import(dataSourceGetField) gadget_handle_t
dataSourceGetField(gadget_handle_t source, gadget_buf_t name);
__gadget_import(dataSourceAddField) gadget_handle_t
dataSourceAddField(gadget_handle_t source, gadget_buf_t name, uint32_t kind);
/* Not to be shown. */
__gadget_import(dataSourceUnreference) int32_t dataSourceUnreference(gadget_handle_t source);
/* 1 yes, 0 no, 2 no such handle. */
__gadget_import(dataSourceIsReferenced) uint32_t dataSourceIsReferenced(gadget_handle_t source);

/* Events of one's own. A packet of a single source is the data of an event; of an array source, an
 * array. Each is emitted or released once. */
__gadget_import(dataSourceNewPacketSingle) gadget_handle_t
dataSourceNewPacketSingle(gadget_handle_t source);
__gadget_import(dataSourceNewPacketArray) gadget_handle_t
dataSourceNewPacketArray(gadget_handle_t source);
__gadget_import(dataSourceEmitAndRelease) int32_t
dataSourceEmitAndRelease(gadget_handle_t source, gadget_handle_t packet);
__gadget_import(dataSourceRelease) int32_t
dataSourceRelease(gadget_handle_t source, gadget_handle_t packet);

/* Arrays. An element of dataArrayNew is appended or released once; one of dataArrayGet is not. */
__gadget_import(dataArrayNew) gadget_handle_t dataArrayNew(gadget_handle_t array);
__gadget_import(dataArrayAppend) int32_t dataArrayAppend(gadget_handle_t array, gadget_handle_t data);
__gadget_import(dataArrayRelease) int32_t
dataArrayRelease(gadget_handle_t array, gadget_handle_t data);
__gadget_import(dataArrayLen) uint32_t dataArrayLen(gadget_handle_t array);
__gadget_import(dataArrayGet) gadget_handle_t dataArrayGet(gadget_handle_t array, uint32_t index);

/* Values. Of an error, 1 is written to the address in error, unless this is 0. Floats are their
 * bits. */
__gadget_import(fieldGetScalar) uint64_t
fieldGetScalar(gadget_handle_t field, gadget_handle_t data, uint32_t kind, uint32_t *error);
/* Kinds string and bytes. The number of bytes written, which no NUL follows; -1: they do not fit,
 * or it cannot be read. Of an array of char, all of the array. */
__gadget_import(fieldGetBuffer) int32_t
fieldGetBuffer(gadget_handle_t field, gadget_handle_t data, uint32_t kind, gadget_buf_t to);
/* Of kinds string and bytes, the value is a gadget_buf_t. */
__gadget_import(fieldSet) int32_t
fieldSet(gadget_handle_t field, gadget_handle_t data, uint32_t kind, uint64_t value);
__gadget_import(fieldAddTag) int32_t fieldAddTag(gadget_handle_t field, gadget_buf_t tag);

/* Parameters of gadget.yaml's params.wasm, and settings of the gadget such as
 * "programs.NAME.attach_to" (kind string; before gadgetStart). */
__gadget_import(getParamValue) int32_t getParamValue(gadget_buf_t key, gadget_buf_t to);
__gadget_import(setConfig) int32_t setConfig(gadget_buf_t key, gadget_buf_t value, uint32_t kind);

/* Maps of the eBPF program, from gadgetStart on, and new ones. Types and flags are those of
 * linux/bpf.h. Values of maps of maps are handles. */
__gadget_import(newMap) gadget_handle_t newMap(gadget_buf_t name, uint32_t type, uint32_t key_size,
					       uint32_t value_size, uint32_t max_entries);
__gadget_import(getMap) gadget_handle_t getMap(gadget_buf_t name);
__gadget_import(mapLookup) int32_t
mapLookup(gadget_handle_t map, gadget_buf_t key, gadget_buf_t value);
__gadget_import(mapUpdate) int32_t
mapUpdate(gadget_handle_t map, gadget_buf_t key, gadget_buf_t value, uint64_t flags);
__gadget_import(mapDelete) int32_t mapDelete(gadget_handle_t map, gadget_buf_t key);
__gadget_import(mapRelease) int32_t mapRelease(gadget_handle_t map);

/* Readers of perf event arrays. perfReaderRead: 2 when nothing is left. */
__gadget_import(newPerfReader) gadget_handle_t
newPerfReader(gadget_handle_t map, uint32_t bytes_per_cpu, uint32_t overwritable);
__gadget_import(perfReaderPause) int32_t perfReaderPause(gadget_handle_t reader);
__gadget_import(perfReaderResume) int32_t perfReaderResume(gadget_handle_t reader);
__gadget_import(perfReaderRead) int32_t perfReaderRead(gadget_handle_t reader, gadget_buf_t to);
__gadget_import(perfReaderClose) int32_t perfReaderClose(gadget_handle_t reader);

/* The machine. */
struct gadget_syscall_param {
	char name[32];
	/* Bit 0: it is a pointer. */
	uint32_t flags;
};

struct gadget_syscall_declaration {
	char name[32];
	uint8_t nr_params;
	uint8_t pad[3];
	struct gadget_syscall_param params[6];
};

__gadget_import(getSyscallName) int32_t getSyscallName(uint32_t id, gadget_buf_t to);
/* -1: there is none of that name. */
__gadget_import(getSyscallID) int32_t getSyscallID(gadget_buf_t name);
/* Writes a struct gadget_syscall_declaration. */
__gadget_import(getSyscallDeclaration) int32_t
getSyscallDeclaration(gadget_buf_t name, gadget_buf_t to);
/* 1: /proc/kallsyms has exactly one such symbol. */
__gadget_import(kallsymsSymbolExists) uint32_t kallsymsSymbolExists(gadget_buf_t symbol);
/* 1: the mount namespace is not of a chosen container. */
__gadget_import(shouldDiscardMntnsID) uint32_t shouldDiscardMntnsID(uint64_t mntns_id);

__gadget_import(releaseHandle) int32_t releaseHandle(gadget_handle_t handle);

/* Convenience. */

static inline gadget_buf_t gadget_buf(const void *address, uint32_t size)
{
	return (uint64_t)size << 32 | (uint32_t)(uintptr_t)address;
}

static inline uint32_t gadget_strnlen(const char *text, uint32_t most)
{
	uint32_t size = 0;

	while (size < most && text[size])
		size++;
	return size;
}

/* A text that ends with NUL, which is left out. */
static inline gadget_buf_t gadget_str(const char *text)
{
	return gadget_buf(text, gadget_strnlen(text, UINT32_MAX));
}

static inline void gadget_log(enum gadget_log_level level, const char *message)
{
	if (gadgetShouldLog(level))
		gadgetLog(level, gadget_str(message));
}

/* 0 when the field cannot be read. */
static inline uint64_t gadget_get_uint(gadget_handle_t field, gadget_handle_t data,
				       enum gadget_kind kind)
{
	uint32_t error = 0;
	uint64_t value = fieldGetScalar(field, data, kind, &error);

	return error ? 0 : value;
}

/* The text of a field up to its first NUL, ended by one in to[size]; its length. "" when it cannot
 * be read or has no room. */
static inline uint32_t gadget_get_str(gadget_handle_t field, gadget_handle_t data, char *to,
				      uint32_t size)
{
	int32_t got;

	if (!size)
		return 0;
	got = fieldGetBuffer(field, data, GADGET_KIND_STRING, gadget_buf(to, size - 1));
	if (got < 0)
		got = 0;
	to[got] = 0;
	return gadget_strnlen(to, (uint32_t)got);
}

static inline int32_t gadget_set_str(gadget_handle_t field, gadget_handle_t data, const char *text)
{
	return fieldSet(field, data, GADGET_KIND_STRING, gadget_str(text));
}

/* The value of a parameter, ended by NUL, in to[size]; false when there is none or no room. */
static inline bool gadget_get_param(const char *key, char *to, uint32_t size)
{
	uint32_t i;

	for (i = 0; i < size; i++)
		to[i] = 0;
	return size && !getParamValue(gadget_str(key), gadget_buf(to, size - 1));
}

/* data: of an event, an array or a packet, by the kind of subscription; valid until return. */
typedef void (*gadget_callback_t)(gadget_handle_t data);

/* Have callback called for events of source; 0 when it will be. */
static inline int32_t gadget_subscribe(gadget_handle_t source, enum gadget_subscription kind,
				       int32_t priority, gadget_callback_t callback)
{
	return dataSourceSubscribe(source, kind, priority, (uint32_t)(uintptr_t)callback);
}

/* Once in every module: what the runner asks for, and the way to the callbacks. */
#define GADGET_MODULE()                                                                           \
	__attribute__((export_name("gadgetAPIVersion"))) uint64_t gadgetAPIVersion(void)          \
	{                                                                                         \
		return GADGET_API_VERSION;                                                        \
	}                                                                                         \
	__attribute__((export_name("dataSourceCallback"))) void dataSourceCallback(               \
		uint64_t id, __attribute__((unused)) gadget_handle_t source, gadget_handle_t data) \
	{                                                                                         \
		((gadget_callback_t)(uintptr_t)id)(data);                                         \
	}                                                                                         \
	_Static_assert(1, "takes a semicolon")

#endif /* __GADGET_WASM_H */
