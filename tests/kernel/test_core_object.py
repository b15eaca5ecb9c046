"""Objects in the real kernel: loading, attaching, refusing, and leaving nothing."""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from support import mounts
from support.bpf_build import compile_object
from support.bpf_holders import not_of_others
from support.bpf_ids import Kind, ids
from support.core_plans import PlanMaker
from support.waiting import wait_for

from ig_py._core import CoreError, Map, Object, probe

pytestmark = pytest.mark.needs("root", "bpf", "clang")

KINDS: tuple[Kind, ...] = ("program", "map")
HASH, ARRAY, PERF_EVENT_ARRAY, RINGBUF = 1, 2, 4, 27


@pytest.fixture(scope="module")
def stress(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_object("core/stress.bpf.c", tmp_path_factory.mktemp("stress"))


@pytest.fixture(scope="module")
def rejected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_object("core/rejected.bpf.c", tmp_path_factory.mktemp("rejected"))


def only(obj: Object, *programs: str) -> None:
    for program in obj.programs():
        obj.set_autoload(program["name"], program["name"] in programs)


def gone(what: Kind, *numbers: int) -> bool:
    """The kernel frees programs and maps a little after their last descriptor."""
    return wait_for(lambda: not set(numbers) & ids(what).keys(), f"{what} {numbers} to go", 10)


def loaded(*names: str) -> set[int]:
    """Ids of the programs of these names that no other process holds."""
    of_those = (number for number, name in ids("program").items() if name in names)
    return not_of_others("program", of_those)


def kind(failure: pytest.ExceptionInfo[CoreError]) -> str:
    return failure.value.kind


def test_facts_without_the_kernel(stress: bytes) -> None:
    before = loaded("on_enter", "on_kprobe")
    obj = Object(stress, "stress")
    assert obj.program_ids() == [] and obj.map_ids() == []
    programs = {p["name"]: p for p in obj.programs()}
    assert programs["on_enter"]["type"] == "raw_tracepoint"
    assert programs["on_kprobe"]["section"] == "kprobe/do_exit"
    assert programs["on_enter"]["insn_count"] > 10
    maps = {m["name"]: m for m in obj.maps()}
    assert maps["events"]["type"] == RINGBUF
    assert maps["produced"]["key_size"] == 4 and maps["produced"]["value_size"] == 8
    assert {".rodata", ".bss"} <= maps.keys()
    assert not loaded("on_enter", "on_kprobe") - before
    obj.close()


def test_load_attach_close_leave_nothing(stress: bytes) -> None:
    obj = Object(stress, "stress")
    only(obj, "on_enter")
    obj.load()
    programs, maps = obj.program_ids(), obj.map_ids()
    assert len(programs) == 1
    assert set(maps) <= ids("map").keys()
    obj.attach("on_enter")
    with pytest.raises(CoreError, match="attached already"):
        obj.attach("on_enter")
    obj.detach()
    obj.detach()
    obj.attach("on_enter")
    obj.close()
    obj.close()
    assert gone("program", *programs)
    assert gone("map", *maps)
    with pytest.raises(CoreError) as failure:
        obj.maps()
    assert kind(failure) == "closed"


def test_dropping_the_object_is_enough(stress: bytes) -> None:
    obj = Object(stress, "stress")
    only(obj, "on_enter")
    obj.load()
    obj.attach("on_enter")
    programs = obj.program_ids()
    del obj
    gc.collect()
    assert gone("program", *programs)


def test_the_verifier_is_quoted(rejected: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    before = loaded("fine")
    obj = Object(rejected, "rejected")
    with pytest.raises(CoreError) as failure:
        obj.load()
    what, message, log = failure.value.kind, failure.value.message, failure.value.log
    assert what == "verifier"
    assert "reads_nowhere" in message and "fine" not in message
    assert "BEGIN PROG LOAD LOG" in log and "4660" in log
    assert capfd.readouterr().err == ""
    assert wait_for(lambda: loaded("fine") <= before, "the programs to go", 10)
    with pytest.raises(CoreError) as failure:
        obj.load()
    assert kind(failure) == "closed"


def test_the_other_programs_load_without_the_bad_one(rejected: bytes) -> None:
    obj = Object(rejected, "rejected")
    obj.set_autoload("reads_nowhere", False)
    obj.load()
    obj.attach("fine")
    with pytest.raises(CoreError) as failure:
        obj.attach("reads_nowhere")
    assert kind(failure) == "attach"
    obj.close()


@pytest.fixture
def tracepoints(stress: bytes) -> Iterator[Object]:
    obj = Object(stress, "stress")
    only(obj, "on_tracepoint", "on_missing")
    obj.load()
    yield obj
    obj.close()


@pytest.mark.needs("tracepoint")
def test_tracepoints_with_tracefs(tracepoints: Object) -> None:
    with mounts.tracing_mounted():
        with pytest.raises(CoreError, match="the kernel has no such tracepoint") as failure:
            tracepoints.attach("on_missing")
        assert kind(failure) == "absent"
        tracepoints.attach("on_tracepoint")


@pytest.mark.needs("tracepoint")
def test_tracepoints_without_tracefs(tracepoints: Object) -> None:
    """Then the kernel does not say which tracepoints it has."""
    with mounts.tracing_unmounted():
        for program in ("on_missing", "on_tracepoint"):
            with pytest.raises(CoreError, match="tracefs is not mounted") as failure:
                tracepoints.attach(program)
            assert kind(failure) == "attach"


def test_targets_can_be_overridden(stress: bytes) -> None:
    obj = Object(stress, "stress")
    only(obj, "on_enter", "on_uprobe")
    obj.set_attach_target("on_enter", "sched_switch")
    obj.set_attach_target("on_uprobe", "/no/such/file:main")
    obj.load()
    try:
        obj.attach("on_enter")
        with pytest.raises(CoreError, match="/no/such/file"):
            obj.attach("on_uprobe")
    finally:
        obj.close()


@pytest.mark.parametrize("program", ["on_kprobe", "on_syscall_function", "on_ksyscall"])
@pytest.mark.parametrize(
    ("tracing", "refusals"),
    # With tracefs, libbpf looks there for the functions that may be probed.
    [(mounts.tracing_mounted, ("attach", "absent")), (mounts.tracing_unmounted, ("attach",))],
    ids=["tracefs", "no tracefs"],
)
def test_kprobes_attach_or_say_why(
    stress: bytes,
    program: str,
    tracing: Callable[[], AbstractContextManager[None]],
    refusals: tuple[str, ...],
) -> None:
    obj = Object(stress, "stress")
    only(obj, program)
    obj.load()
    try:
        with tracing():
            if probe("kprobe"):
                obj.attach(program)
            else:
                with pytest.raises(CoreError) as failure:
                    obj.attach(program)
                assert kind(failure) in refusals
                assert program in failure.value.message
    finally:
        obj.close()


def test_programs_without_a_hook_are_unsupported(stress: bytes) -> None:
    obj = Object(stress, "stress")
    only(obj, "on_socket")
    obj.load()
    with pytest.raises(CoreError) as failure:
        obj.attach("on_socket")
    assert kind(failure) == "unsupported"
    obj.close()


def test_fentry_attaches_where_the_probe_says_so(stress: bytes) -> None:
    obj = Object(stress, "stress")
    only(obj, "on_fentry")
    try:
        if probe("fentry"):
            obj.load()
            obj.attach("on_fentry")
        else:
            with pytest.raises(CoreError):
                obj.load()
                obj.attach("on_fentry")
    finally:
        obj.close()


def test_maps_are_configured_before_loading(stress: bytes) -> None:
    obj = Object(stress, "stress")
    only(obj, "on_enter")
    obj.set_max_entries("events", 1 << 16)
    obj.set_max_entries("produced", 3)
    with pytest.raises(CoreError, match="no map nonsense"):
        obj.set_max_entries("nonsense", 1)
    obj.set_map_type("events_lost_samples", ARRAY, 4, 8)
    obj.load()
    sizes = {m["name"]: (m["type"], m["max_entries"]) for m in obj.maps()}
    assert sizes["events"] == (RINGBUF, 1 << 16)
    assert sizes["produced"] == (HASH, 3)
    assert sizes["events_lost_samples"] == (ARRAY, 1)
    with pytest.raises(CoreError, match="loaded already"):
        obj.set_max_entries("events", 1 << 17)
    obj.close()


def test_a_ring_becomes_a_perf_array_of_all_cpus(stress: bytes) -> None:
    obj = Object(stress, "stress")
    only(obj, "on_tracepoint")
    obj.set_map_type("events", PERF_EVENT_ARRAY, 4, 4)
    obj.load()
    events = next(m for m in obj.maps() if m["name"] == "events")
    assert (events["type"], events["key_size"], events["value_size"]) == (PERF_EVENT_ARRAY, 4, 4)
    assert 1 <= events["max_entries"] <= 8192
    maker = PlanMaker(8)
    maker.field("n", "u64", 0, 8)
    maker.datasource["map"] = "events"
    stream = obj.stream(maker.text())
    assert stream.counters()["x"]["lost"] == 0
    stream.close()
    obj.close()


def test_initial_data_is_bounded(stress: bytes) -> None:
    obj = Object(stress, "stress")
    obj.set_data(".rodata", 0, b"\1\0\0\0")
    size = next(m["value_size"] for m in obj.maps() if m["name"] == ".rodata")
    for offset, data in [(size, b"x"), (size - 1, b"xy"), (2**40, b"x"), (2**63, b"x")]:
        with pytest.raises(CoreError) as failure:
            obj.set_data(".rodata", offset, data)
        assert kind(failure) == "map"
    with pytest.raises(CoreError):
        obj.set_data("events", 0, b"x")
    obj.close()


def test_only_equal_or_larger_maps_replace(stress: bytes) -> None:
    obj = Object(stress, "stress")
    only(obj, "on_enter")
    wrong = Map.create("other", HASH, 4, 8, 7)
    with pytest.raises(CoreError, match="max entries is 8 in the object and 7"):
        obj.reuse_map("produced", wrong)
    own = Map.create("other", HASH, 4, 8, 4096)
    obj.reuse_map("produced", own)
    obj.load()
    assert own.id in obj.map_ids()
    assert wrong.id not in obj.map_ids()
    obj.close()
    assert own.id in ids("map")
    number = own.id
    own.close()
    wrong.close()
    assert gone("map", number)


def test_own_maps() -> None:
    m = Map.create("a name much too long!", HASH, 8, 4, 2)
    assert ids("map")[m.id] == "a_name_much_too"
    one, two = struct.pack("Q", 1), struct.pack("Q", 2)
    m.update(one, b"abcd")
    assert m.lookup(one) == b"abcd"
    assert m.lookup(two) is None
    m.update(two, b"efgh")
    assert sorted(m.keys()) == [one, two]
    with pytest.raises(CoreError, match="Argument list too long"):
        m.update(struct.pack("Q", 3), b"ijkl")
    assert m.delete(one) is True
    assert m.delete(one) is False
    for bad in (b"", b"1234567", b"123456789"):
        with pytest.raises(CoreError, match="takes 8"):
            m.update(bad, b"abcd")
    m.close()
    with pytest.raises(CoreError) as failure:
        m.lookup(one)
    assert kind(failure) == "closed"
    with pytest.raises(CoreError, match="cannot create map"):
        Map.create("x", 9999, 1, 1, 1)


def test_per_cpu_maps_show_every_cpu() -> None:
    m = Map.create("percpu", 6, 4, 8, 1)
    value = m.lookup(bytes(4))
    assert value is not None and len(value) % 8 == 0 and len(value) >= 8
    m.update(bytes(4), bytes(range(8)) * (len(value) // 8))
    assert m.lookup(bytes(4)) == bytes(range(8)) * (len(value) // 8)
    m.close()


def test_garbage_does_not_open() -> None:
    for elf in (b"", b"\x7fELF", b"\x7fELF" + bytes(4096), bytes(range(256)) * 16):
        with pytest.raises(CoreError) as failure:
            Object(elf, "garbage")
        assert kind(failure) == "open"


def test_damaged_objects_never_crash(stress: bytes) -> None:
    """Truncations and flipped bytes open or fail, and close cleanly."""
    for cut in range(0, len(stress), max(1, len(stress) // 40)):
        try:
            Object(stress[:cut], "cut").close()
        except CoreError as err:
            assert err.kind == "open"
    for at in range(0, len(stress), max(1, len(stress) // 200)):
        broken = bytearray(stress)
        broken[at] ^= 0xFF
        try:
            obj = Object(bytes(broken), "flipped")
            obj.programs(), obj.maps()
            obj.close()
        except CoreError as err:
            assert err.kind == "open"


@pytest.mark.needs("btf")
def test_probes_agree_with_doing() -> None:
    hooks = ("kprobe", "tracepoint", "raw_tracepoint", "fentry", "lsm", "iter", "uprobe")
    for feature in ("ringbuf", *hooks):
        assert isinstance(probe(feature), bool)
    assert probe("btf") is True
    assert probe("boot_ns") is True
    for what in KINDS:
        gone(what, *(number for number, name in ids(what).items() if name == "ig_probe"))
    with pytest.raises(CoreError) as failure:
        probe("telepathy")
    assert kind(failure) == "unsupported"
