/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An example of a wasm module in C (docs/wasm-guests.md). It adds a field to the events of execs,
 * and copies them to a data source of its own, without those of the program that --skip names.
 */
#include <gadget/wasm.h>

#define NAME_SIZE 32

GADGET_MODULE();

static gadget_handle_t picked;
static gadget_handle_t execs_pid, execs_comm, execs_upper;
static gadget_handle_t picked_pid, picked_comm;
static char skip[NAME_SIZE];

static bool equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static void show(uint64_t pid, const char *comm)
{
	gadget_handle_t event = dataSourceNewPacketSingle(picked);

	if (!event)
		return;
	fieldSet(picked_pid, event, GADGET_KIND_UINT32, pid);
	gadget_set_str(picked_comm, event, comm);
	dataSourceEmitAndRelease(picked, event);
}

static void on_exec(gadget_handle_t event)
{
	char comm[NAME_SIZE], upper[NAME_SIZE];
	uint32_t i, size = gadget_get_str(execs_comm, event, comm, sizeof(comm));

	for (i = 0; i < size; i++)
		upper[i] = comm[i] >= 'a' && comm[i] <= 'z' ? comm[i] - 'a' + 'A' : comm[i];
	upper[size] = 0;
	gadget_set_str(execs_upper, event, upper);

	if (equal(comm, skip))
		gadget_log(GADGET_LOG_INFO, "skipped an event");
	else
		show(gadget_get_uint(execs_pid, event, GADGET_KIND_UINT32), comm);
}

GADGET_EXPORT(gadgetInit)
{
	gadget_handle_t execs = getDataSource(gadget_str("execs"));

	gadget_get_param("skip", skip, sizeof(skip));
	picked = newDataSource(gadget_str("picked"), GADGET_DATA_SOURCE_SINGLE);
	if (!execs || !picked) {
		gadget_log(GADGET_LOG_ERROR, "there is no data source execs or picked");
		return 1;
	}
	execs_pid = dataSourceGetField(execs, gadget_str("pid"));
	execs_comm = dataSourceGetField(execs, gadget_str("comm"));
	execs_upper = dataSourceAddField(execs, gadget_str("upper"), GADGET_KIND_STRING);
	picked_pid = dataSourceAddField(picked, gadget_str("pid"), GADGET_KIND_UINT32);
	picked_comm = dataSourceAddField(picked, gadget_str("comm"), GADGET_KIND_STRING);
	if (!execs_pid || !execs_comm || !execs_upper || !picked_pid || !picked_comm)
		return 1;
	return gadget_subscribe(execs, GADGET_SUBSCRIBE_DATA, 0, on_exec);
}
