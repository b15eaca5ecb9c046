"""What a wasm module in C asks the kernel for: maps, perf buffers, symbols, system calls, the
selected containers."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_docker import FakeContainer, FakeDocker, container_id, fake_docker
from support.running_gadget import RunningGadget, of_docker
from support.waiting import wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang", "wasm_linker"),
    pytest.mark.timeout(300),
    pytest.mark.any_kernel,
]

PROGRAM = """
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <gadget/buffer.h>
#include <gadget/macros.h>
#include <gadget/mntns.h>
#include <gadget/mntns_filter.h>

#define RECORD 200

struct event {
	__u64 namespace;
	__u32 pid;
	__u32 wanted;
};

GADGET_TRACER_MAP(events, 1024 * 256);
GADGET_TRACER(removals, events, event);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} numbers SEC(".maps");

struct inner_hash {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner_hash);
} tables SEC(".maps");

struct inner_ring {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner_ring);
} rings SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_rmdir")
int on_removal(void *ctx)
{
	__u32 zero = 0, one = 1, pid = bpf_get_current_pid_tgid() >> 32;
	struct event event = {.pid = pid};
	__u64 record[RECORD / 8] = {}, *counted, *told;
	void *inner;
	int i;

	event.namespace = gadget_get_mntns_id();
	event.wanted = !gadget_should_discard_mntns_id(event.namespace);
	/* The module writes whose removals are meant. */
	told = bpf_map_lookup_elem(&numbers, &zero);
	if (!told || *told != pid) {
		gadget_output_buf(ctx, &events, &event, sizeof(event));
		return 0;
	}
	inner = bpf_map_lookup_elem(&tables, &zero);
	counted = inner ? bpf_map_lookup_elem(inner, &one) : NULL;
	if (!counted)
		return 0;
	for (i = 0; i < RECORD / 8; i++)
		record[i] = *counted;
	*counted += 1;
	for (i = 0; i < 2; i++) {
		__u32 key = i;

		inner = bpf_map_lookup_elem(&rings, &key);
		if (inner)
			bpf_perf_event_output(ctx, inner, BPF_F_CURRENT_CPU, record, sizeof(record));
	}
	return 0;
}

char _license[] SEC("license") = "GPL";
"""

GUEST = r"""
#include <gadget/wasm.h>

#define HASH 1
#define PERF_EVENT_ARRAY 4
#define PAGE 4096
#define RECORD 200

GADGET_MODULE();

static gadget_handle_t told, what, value;
static gadget_handle_t removals, space, guest_wanted;
static gadget_handle_t inner, overwritten, all;
static int32_t declared_first;
static uint8_t record[RECORD + 64];

static void tell(const char *name, uint64_t number)
{
	gadget_handle_t event = dataSourceNewPacketSingle(told);

	gadget_set_str(what, event, name);
	fieldSet(value, event, GADGET_KIND_UINT64, number);
	dataSourceEmitAndRelease(told, event);
}

static uint64_t number_of(const char *text)
{
	uint64_t number = 0;

	while (*text >= '0' && *text <= '9')
		number = number * 10 + (uint64_t)(*text++ - '0');
	return number;
}

#define BUF(variable) gadget_buf(&(variable), sizeof(variable))

static void on_removal(gadget_handle_t event)
{
	uint64_t id = gadget_get_uint(space, event, GADGET_KIND_UINT64);

	fieldSet(guest_wanted, event, GADGET_KIND_UINT32, !shouldDiscardMntnsID(id));
}

GADGET_EXPORT(gadgetInit)
{
	struct gadget_syscall_declaration call;

	declared_first = getSyscallDeclaration(gadget_str("openat"), BUF(call));
	told = newDataSource(gadget_str("told"), GADGET_DATA_SOURCE_SINGLE);
	what = dataSourceAddField(told, gadget_str("what"), GADGET_KIND_STRING);
	value = dataSourceAddField(told, gadget_str("value"), GADGET_KIND_UINT64);
	removals = getDataSource(gadget_str("removals"));
	space = dataSourceGetField(removals, gadget_str("namespace"));
	guest_wanted = dataSourceAddField(removals, gadget_str("guest_wanted"), GADGET_KIND_UINT32);
	return gadget_subscribe(removals, GADGET_SUBSCRIBE_DATA, 0, on_removal);
}

static void symbols(void)
{
	static const char *const names[] = {"unique", "repeated", "missing"};
	char symbol[128];
	int i;

	for (i = 0; i < 3; i++)
		if (gadget_get_param(names[i], symbol, sizeof(symbol)))
			tell(names[i], kallsymsSymbolExists(gadget_str(symbol)));
}

static void system_calls(void)
{
	struct gadget_syscall_declaration call;
	char name[32] = {0};
	uint32_t i;

	getSyscallName((uint32_t)getSyscallID(gadget_str("openat")), gadget_buf(name, sizeof(name)));
	tell(name, 0);
	tell("no such call", (uint64_t)(getSyscallID(gadget_str("openfrog")) == -1));
	tell("declared in gadgetInit", (uint64_t)declared_first);
	tell("declared", (uint64_t)getSyscallDeclaration(gadget_str("openat"), BUF(call)));
	tell(call.name, call.nr_params);
	for (i = 0; i < call.nr_params && i < 6; i++)
		tell(call.params[i].name, call.params[i].flags);
	tell("undeclared", (uint64_t)getSyscallDeclaration(gadget_str("openfrog"), BUF(call)));
}

static void own_map(void)
{
	gadget_handle_t map = newMap(gadget_str("mine"), HASH, 4, 8, 2);
	uint32_t key = 1;
	uint64_t number = 7, got = 0;

	tell("update", (uint64_t)mapUpdate(map, BUF(key), BUF(number), 0));
	tell("update what is there", (uint64_t)mapUpdate(map, BUF(key), BUF(number), 1));
	tell("lookup", (uint64_t)mapLookup(map, BUF(key), BUF(got)));
	tell("looked up", got);
	tell("delete", (uint64_t)mapDelete(map, BUF(key)));
	tell("delete again", (uint64_t)mapDelete(map, BUF(key)));
	tell("lookup again", (uint64_t)mapLookup(map, BUF(key), BUF(got)));
	tell("short key", (uint64_t)mapLookup(map, gadget_buf(&key, 3), BUF(got)));
	tell("release", (uint64_t)mapRelease(map));
	tell("after release", (uint64_t)mapUpdate(map, BUF(key), BUF(number), 0));
}

static gadget_handle_t ring(gadget_handle_t rings, uint32_t key, uint32_t size, uint32_t newest)
{
	gadget_handle_t map = newMap(gadget_str("ring"), PERF_EVENT_ARRAY, 4, 4, 0);
	gadget_handle_t reader = newPerfReader(map, size, newest);

	if (mapUpdate(rings, BUF(key), BUF(map), 1))
		return 0;
	return reader;
}

GADGET_EXPORT(gadgetStart)
{
	gadget_handle_t numbers = getMap(gadget_str("numbers")), tables = getMap(gadget_str("tables"));
	gadget_handle_t rings = getMap(gadget_str("rings")), found = 0;
	uint32_t zero = 0, one = 1;
	uint64_t pid, count = 0;
	char text[32];

	symbols();
	system_calls();
	own_map();
	inner = newMap(gadget_str("inner"), HASH, 4, 8, 4);
	tell("put into it", (uint64_t)mapUpdate(inner, BUF(one), BUF(count), 0));
	tell("put it into another", (uint64_t)mapUpdate(tables, BUF(zero), BUF(inner), 0));
	tell("find it there", (uint64_t)mapLookup(tables, BUF(zero), BUF(found)));
	tell("with another handle", found && found != inner);
	tell("not the module's", (uint64_t)mapRelease(found));
	count = 9;
	tell("read by that", (uint64_t)mapLookup(found, BUF(one), BUF(count)));
	tell("read", count);
	releaseHandle(found);
	overwritten = ring(rings, 0, PAGE, 1);
	all = ring(rings, 1, 64 * PAGE, 0);
	if (!overwritten || !all || !gadget_get_param("pid", text, sizeof(text)))
		return 1;
	pid = number_of(text);
	return mapUpdate(numbers, BUF(zero), BUF(pid), 0);
}

static void drain(gadget_handle_t reader, const char *name)
{
	uint64_t number;
	int32_t status;
	uint32_t i;

	while (!(status = perfReaderRead(reader, gadget_buf(record, sizeof(record))))) {
		number = *(uint64_t *)record;
		for (i = 8; i < RECORD; i += 8)
			if (*(uint64_t *)(record + i) != number)
				tell("torn", number);
		tell(name, number);
	}
	tell("end", (uint64_t)status);
}

GADGET_EXPORT(gadgetStop)
{
	uint32_t one = 1;
	uint64_t count = 0;

	mapLookup(inner, BUF(one), BUF(count));
	tell("counted", count);
	perfReaderPause(overwritten);
	drain(overwritten, "newest");
	drain(overwritten, "nothing more");
	perfReaderResume(overwritten);
	drain(all, "all");
	tell("close", (uint64_t)perfReaderClose(overwritten));
	tell("after close", (uint64_t)perfReaderPause(overwritten));
	return 0;
}
"""

PARAMS = ("unique", "repeated", "missing", "pid")


@pytest.fixture
def gadget(tmp_path: Path) -> str:
    directory = tmp_path / "gadget"
    directory.mkdir()
    (directory / "program.bpf.c").write_text(PROGRAM)
    (directory / "guest.c").write_text(GUEST)
    (directory / "build.yaml").write_text("wasm: guest.c\n")
    params = "".join(f"    {name}: {{key: {name}, defaultValue: ''}}\n" for name in PARAMS)
    (directory / "gadget.yaml").write_text(f"name: asks\nparams:\n  wasm:\n{params}")
    return str(directory)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeDocker]:
    with fake_docker(tmp_path) as fake:
        yield fake


def events(run: RunningGadget) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.out.rpartition("\n")[0].splitlines()]


def told(run: RunningGadget) -> list[tuple[str, int]]:
    return [(e["what"], e["value"]) for e in events(run) if "what" in e]


def symbols() -> tuple[str, str]:
    """A symbol that the kernel has once, and one that it has several times."""
    names = Counter(line.split()[2] for line in Path("/proc/kallsyms").read_text().splitlines())
    plain = {name: count for name, count in names.items() if name.isidentifier()}
    return (
        next(name for name, count in plain.items() if count == 1),
        next(name for name, count in plain.items() if count > 1),
    )


def remove_nothing(directory: Path, times: int) -> None:
    """System calls rmdir of this process, all on one processor."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        for _ in range(times):
            with pytest.raises(FileNotFoundError):
                (directory / "none").rmdir()
    finally:
        os.sched_setaffinity(0, allowed)


def namespace_of(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/mnt").stat().st_ino


def test_maps_buffers_symbols_and_system_calls(gadget: str, tmp_path: Path) -> None:
    unique, repeated = symbols()
    flags = (f"--unique={unique}", f"--repeated={repeated}", "--missing=no_such_symbol")
    arguments = ("--host", "-o", "json", *flags, f"--pid={os.getpid()}")
    with RunningGadget(tmp_path / "run", gadget, *arguments) as run:
        run.wait_running()
        remove_nothing(tmp_path, 100)
        assert run.end() == 0
    said = told(run)
    values = dict(said)
    assert [values[name] for name in ("unique", "repeated", "missing")] == [1, 0, 0]
    assert values["declared in gadgetInit"] == 0
    assert (values["no such call"], values["declared"], values["undeclared"]) == (1, 0, 1)
    at = said.index(("openat", 4))
    assert said[at + 1 : at + 5] == [("dfd", 0), ("filename", 1), ("flags", 0), ("mode", 0)]
    done = [
        ("update", 0), ("update what is there", 1), ("lookup", 0), ("looked up", 7),
        ("delete", 0), ("delete again", 1), ("lookup again", 1), ("short key", 1),
        ("release", 0), ("after release", 1),
        ("put into it", 0), ("put it into another", 0), ("find it there", 0),
        ("with another handle", 1), ("not the module's", 1), ("read by that", 0), ("read", 0),
    ]  # fmt: skip
    at = said.index(("update", 0))
    assert said[at : at + len(done)] == done
    assert values["counted"] == 100
    assert "torn" not in values
    newest = [number for name, number in said if name == "newest"]
    # A record of 200 bytes takes 216 of the 4096.
    assert newest == list(range(99, 99 - 4096 // 216, -1))
    assert "nothing more" not in values
    assert [number for name, number in said if name == "all"] == list(range(100))
    assert [number for name, number in said if name == "end"] == [2, 2, 2]
    assert (values["close"], values["after close"]) == (0, 1)


def test_the_selected_containers(gadget: str, engine: FakeDocker, tmp_path: Path) -> None:
    script = "while :; do rmdir none 2>/dev/null; sleep 0.05; done"
    inside = subprocess.Popen(["unshare", "-m", "sh", "-c", script])
    outside = subprocess.Popen(["sh", "-c", script])
    try:
        own = namespace_of(os.getpid())
        wait_for(lambda: namespace_of(inside.pid) != own, "a namespace")
        theirs = namespace_of(inside.pid)
        engine.add(FakeContainer(container_id(1), "one", pid=inside.pid))
        with of_docker(tmp_path / "run", engine.path, gadget) as run:
            run.wait_running()

            def seen(namespace: int) -> list[tuple[int, int]]:
                shown = [e for e in events(run) if e.get("namespace") == namespace]
                return [(e["wanted"], e["guest_wanted"]) for e in shown]

            wait_for(lambda: len(seen(theirs)) > 2 and len(seen(own)) > 2, "events of both")
            assert (set(seen(theirs)), set(seen(own))) == ({(1, 1)}, {(0, 0)})
            assert run.end() == 0
    finally:
        for process in (inside, outside):
            process.kill()
            process.wait()
