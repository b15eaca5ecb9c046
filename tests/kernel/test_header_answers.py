"""The functions of build/include/gadget in the kernel: what they say about a process, a file, a
packet, compared with what user space knows; compiled by each clang there is."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.compilers import clang_params, require_release
from support.gadget_build import header_object

from ig_py._core import CoreError, Map, Object
from ig_py.gadget.elf import Elf
from ig_py.toolchain.clang import Clang

pytestmark = pytest.mark.needs("root", "bpf", "btf", "clang")

HASH, ARRAY = 1, 2
QUESTION = 0x123456789
NUMBER = 0xFEDCBA9876543210
MAX_FRAMES = 127
FRAME = struct.Struct("=i20sQ")  # struct bpf_stack_build_id
IP, BUILD_ID = 2, 1


class Process(NamedTuple):
    comm: bytes
    pid: int
    tid: int
    mntns: int
    uid: int
    gid: int
    parent_comm: bytes
    ppid: int
    ptid: int


class UserStack(NamedTuple):
    major: int
    minor: int
    inode: int
    mtime_sec: int
    mtime_nsec: int
    base_addr_hash: int
    stack_id: int
    tgid_level0: int
    pid_level0: int
    pidns_level0: int
    pid_level1: int
    pidns_level1: int
    otel_correlation_id: int
    boot_timestamp: int


class Answers(NamedTuple):
    mntns: int
    slot: int
    logarithm: int
    hash64: int
    hash32: int
    base_addr_hash: int
    ctime: int
    mtime_sec: int
    whence: int
    state: int
    kernel_stack: int
    path_length: int
    tries: int
    mtime_nsec: int
    discarded: bool
    kfree: bool
    kmem_cache_free: bool
    block_rq_completion: bool
    old_mnt_userns: bool
    path: bytes


PROCESS = struct.Struct("=16sIIQII16sII")
USER_STACK = struct.Struct("=IIQQIIIIIIIIQQ")
ANSWERS = struct.Struct("=QQQQIIQQQqqqQI?????512s")


class Tracing:
    """The object tracing.bpf.c with its variables set, loaded, and asked once."""

    def __init__(self, elf: bytes, variables: dict[str, bytes], file: Path):
        self.object = Object(elf, "headers")
        set_variables(self.object, elf, {"question": struct.pack("=Q", QUESTION), **variables})
        for program in self.object.programs():
            self.object.set_autoload(program["name"], program["name"] == "ask")
        sizes = {m["name"]: m["value_size"] for m in self.object.maps()}
        self._answers = Map.create("answers", ARRAY, 4, sizes["answers"], 1)
        self.build_ids = Map.create("ig_build_id", HASH, 4, sizes["ig_build_id"], 64)
        self.object.reuse_map("answers", self._answers)
        self.object.set_max_entries("ig_build_id", 64)
        self.object.reuse_map("ig_build_id", self.build_ids)
        try:
            self.object.load()
            self.object.attach("ask")
            with file.open("rb") as opened:
                os.lseek(opened.fileno(), QUESTION, os.SEEK_SET)
        finally:
            self.object.close()
        raw = self._answers.lookup(struct.pack("=I", 0))
        assert raw is not None
        self.process = Process(*PROCESS.unpack_from(raw))
        self.user_stack = UserStack(*USER_STACK.unpack_from(raw, PROCESS.size))
        self.answers = Answers(*ANSWERS.unpack_from(raw, PROCESS.size + USER_STACK.size))


Ask = Callable[..., Tracing]


def set_variables(obj: Object, elf: bytes, variables: dict[str, bytes]) -> None:
    places = {symbol.name: symbol.value for symbol in Elf(elf, "object").symbols}
    for name, value in variables.items():
        obj.set_data(".rodata", places[name], value)


@pytest.fixture(scope="module", params=clang_params())
def clang(request: pytest.FixtureRequest) -> Clang:
    return require_release(request.param)


@pytest.fixture(scope="module")
def elf(clang: Clang, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return header_object("tracing", clang, tmp_path_factory.mktemp("headers"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("asked") / "a file"
    path.write_text("content")
    return path


@pytest.fixture
def ask(elf: bytes, file: Path) -> Ask:
    def asked(**variables: bytes) -> Tracing:
        return Tracing(elf, variables, file)

    return asked


@pytest.fixture
def thread_name() -> Iterator[bytes]:
    path = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
    before = path.read_text()
    path.write_text("asking thread")
    yield b"asking thread"
    path.write_text(before)


def test_process(ask: Ask, thread_name: bytes) -> None:
    found = ask()
    process = found.process
    assert process.comm.rstrip(b"\0") == thread_name
    assert process.mntns == found.answers.mntns == Path("/proc/self/ns/mnt").stat().st_ino
    assert (process.uid, process.gid) == (os.getuid(), os.getgid())
    assert process.parent_comm.split(b"\0")[0].decode() == parent_comm()
    assert process.pid and process.tid and process.ppid == process.ptid
    assert (process.pid == process.tid) == (os.getpid() == threading.get_native_id())


def parent_comm() -> str:
    return Path(f"/proc/{os.getppid()}/comm").read_text().strip()


def test_system_call_and_states(ask: Ask) -> None:
    answers = ask().answers
    assert answers.whence == os.SEEK_SET
    assert answers.state == 0  # TASK_RUNNING
    assert answers.kernel_stack >= 0
    assert answers.tries == 1


@pytest.mark.any_kernel
def test_filters(ask: Ask, thread_name: bytes) -> None:
    known = ask()
    assert not known.answers.discarded

    def discards(**variables: int | bytes) -> bool:
        packed = {
            f"targ_{name}": struct.pack("=I", value) if isinstance(value, int) else value
            for name, value in variables.items()
        }
        return ask(**packed).answers.discarded

    pid, tid = known.process.pid, known.process.tid
    assert not discards(pid=pid, tid=tid, uid=os.getuid(), gid=os.getgid(), comm=thread_name)
    assert discards(pid=pid + 1)
    assert discards(pid=pid, tid=tid + 1)
    assert discards(uid=os.getuid() + 1)
    assert discards(gid=os.getgid() + 1)
    assert discards(comm=thread_name[:-1])
    assert ask(gadget_filter_by_mntns=b"\x01").answers.discarded


def test_file(ask: Ask, file: Path) -> None:
    answers = ask().answers
    status = file.stat()
    path = answers.path[: answers.path_length - 1].decode()
    assert path.startswith("/") and path.endswith(str(file))
    assert answers.ctime == status.st_ctime_ns
    assert answers.mtime_sec * 10**9 + answers.mtime_nsec == status.st_mtime_ns


def fnv1a(data: bytes, bits: int) -> int:
    prime, value = {32: (0x01000193, 0x811C9DC5), 64: (0x100000001B3, 0xCBF29CE484222325)}[bits]
    for byte in data:
        value = (value ^ byte) * prime % 2**bits
    return value


@pytest.mark.any_kernel
@pytest.mark.parametrize("number", [0, 3, 1 << 32, NUMBER])
def test_numbers(ask: Ask, number: int) -> None:
    raw = struct.pack("<Q", number)
    answers = ask(number=raw).answers
    assert answers.slot == number.bit_length()
    assert answers.logarithm == max((number & 0xFFFFFFFF).bit_length() - 1, 0)
    assert answers.hash32 == fnv1a(raw, 32)
    assert answers.hash64 == fnv1a(raw[:4] + raw[:2] + raw[:1], 64)


def test_feature_answers_equal_the_kernels_btf(ask: Ask) -> None:
    answers = ask().answers
    types = Path("/sys/kernel/btf/vmlinux").read_bytes()
    assert answers.kfree == (b"\0trace_event_raw_kfree\0" in types)
    assert answers.kmem_cache_free == (b"\0trace_event_raw_kmem_cache_free\0" in types)
    assert answers.block_rq_completion == (b"\0trace_event_raw_block_rq_completion\0" in types)
    assert answers.old_mnt_userns == (b"\0old_mnt_userns\0" in types)


def test_user_stacks_are_off_unless_asked_for(ask: Ask) -> None:
    assert not any(ask().user_stack)


def test_user_stack(ask: Ask) -> None:
    found = ask(collect_ustack=b"\x01")
    stack = found.user_stack
    exe = Path("/proc/self/exe").stat()
    assert stack.stack_id < 2**31
    assert stack.inode == exe.st_ino
    assert stack.mtime_sec * 10**9 + stack.mtime_nsec == exe.st_mtime_ns
    assert stack.base_addr_hash == found.answers.base_addr_hash != 0
    assert (stack.tgid_level0, stack.pid_level0) == (found.process.pid, found.process.tid)
    assert stack.pidns_level0
    assert bool(stack.pid_level1) == bool(stack.pidns_level1)
    assert stack.boot_timestamp and not stack.otel_correlation_id
    assert found.build_ids.keys() == []


def test_build_ids(ask: Ask) -> None:
    found = ask(collect_ustack=b"\x01", collect_build_id=b"\x01")
    raw = found.build_ids.lookup(struct.pack("=I", found.user_stack.stack_id))
    assert raw is not None and len(raw) == MAX_FRAMES * FRAME.size
    frames = [frame for frame in FRAME.iter_unpack(raw) if frame[0]]
    assert frames
    assert {status for status, _, _ in frames} <= {IP, BUILD_ID}
    assert all(any(build_id) for status, build_id, _ in frames if status == BUILD_ID)


def test_only_some_programs_can_call_an_unwinder(elf: bytes) -> None:
    def load(*programs: str) -> None:
        obj = Object(elf, "headers")
        set_variables(obj, elf, {"collect_ustack": b"\x01", "collect_otel_stack": b"\x01"})
        obj.set_max_entries("ig_build_id", 1)
        for program in obj.programs():
            obj.set_autoload(program["name"], program["name"] in programs)
        try:
            obj.load()
        finally:
            obj.close()

    load("on_call", "on_sample")
    with pytest.raises(CoreError) as refused:
        load("ask")
    assert refused.value.kind == "verifier"


def test_every_other_program_loads(elf: bytes) -> None:
    obj = Object(elf, "headers")
    obj.set_max_entries("ig_build_id", 1)
    obj.load()
    assert len(obj.program_ids()) == len(obj.programs())
    obj.close()
