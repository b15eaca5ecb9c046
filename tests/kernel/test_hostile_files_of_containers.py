"""Files that a container gives the tracer to read: libraries to probe, symbols of its stacks."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.gadget_format import GADGETS
from support.oci_bundle import runc_spec
from support.oci_runtime import Runtime
from support.python_container import KINDS, python_container
from support.root_gadget import image_tar
from support.root_trees import PROGRAM, make_tree
from support.running_gadget import RunningGadget
from support.waiting import deadline, wait_for

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "uprobe", "ringbuf", "clang", "runc"),
    pytest.mark.timeout(300),
]

OWN = f"ig-py-{os.getpid()}"
CALLS = 100
MOST_MIB = 512
"""Of the tracer: symbols, perf maps and names are kept within limits of their own."""


def tracing(directory: Path, image: str, *arguments: str) -> RunningGadget:
    flags = ("--verify-image=false", "-o", "json", "-r", "runc", *arguments)
    return RunningGadget(directory, image, *flags)


def peak_mib(gadget: RunningGadget) -> int:
    status = Path(f"/proc/{gadget.process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+([0-9]+) kB", status, re.M)
    assert found is not None
    return int(found[1]) >> 10


def cpu_seconds(gadget: RunningGadget) -> float:
    fields = Path(f"/proc/{gadget.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Stacks from a function that a just-in-time compiler made, of processes each with a perf map.
STACKS = r"""
import ctypes, mmap, os, platform, signal, sys, time
calls, processes = int(sys.argv[1]), int(sys.argv[2])
CODE = {
    "x86_64": "b8790000" + "0031ff0f05c3",  # mov eax, getpgid; xor edi, edi; syscall; ret
    "aarch64": "681380d2000080d2010000d4c0035fd6",
}
flags, prot = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE
memory = mmap.mmap(-1, 4096, flags=flags, prot=prot | mmap.PROT_EXEC)
memory.write(bytes.fromhex(CODE[platform.machine()]))
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
getpgid = ctypes.CFUNCTYPE(ctypes.c_long)(address)
place = "/tmp/perf-%d.map"
if processes:
    with open("/tmp/whole", "w") as file:
        for number in range(1_000_000):
            file.write("%x 1 %s\n" % (number + 1, "n" * 50))
for number in range(processes):
    pid = os.fork()
    if pid == 0:
        name = place % os.getpid()
        kind = number % 6
        if kind == 3:
            os.mkfifo(name)
        elif kind == 4:
            os.symlink("/proc/kmsg", name)
        elif kind == 5:
            with open(name, "w") as file:
                file.truncate(1 << 30)
        else:
            os.link("/tmp/whole", name)
        while True:
            getpgid()
            # Another map each time.
            os.utime("/tmp/whole")
            time.sleep(0.05)
if not processes:
    with open(place % os.getpid(), "w") as file:
        file.write("%x %x the_function\n" % (address, 4096))
    while not os.path.exists("/own/go"):
        time.sleep(0.05)
    for _ in range(calls):
        getpgid()
        time.sleep(0.02)
open("/own/begun", "w").write("yes")
signal.pause()
"""


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("gadget"), GADGETS / "stacks"))


@pytest.mark.parametrize("kind", KINDS)
def test_perf_maps_of_many_processes(tmp_path: Path, stacks: str, kind: str) -> None:
    with (
        python_container(kind, STACKS, "0", "30") as hostile,
        python_container("no capabilities", STACKS, str(CALLS), "0") as victim,
    ):
        hostile.start()
        victim.start()
        hostile.wait_for_file("begun")
        flags = ("--collect-ustack", "-c", f"{hostile.name},{victim.name}")
        with tracing(tmp_path / "run", stacks, *flags) as gadget:
            gadget.wait_running()
            wait_for(lambda: gadget.out.count(hostile.name) >= 200, "stacks", 60)
            (victim.own / "go").touch()
            victim.wait_for_file("begun")
            wait_for(lambda: gadget.out.count(victim.name) >= CALLS, "the victim's stacks", 60)
            peak = peak_mib(gadget)
            print(f"{cpu_seconds(gadget):.1f} s, {peak} MiB")
            assert gadget.end() == 0, gadget.err
    told = Counter(e["runtime"]["containerName"] for e in gadget.events())
    assert told[victim.name] == CALLS
    assert gadget.account()[1] == 0, gadget.err
    assert peak < MOST_MIB
    named = [
        e["ustack"]["symbols"]
        for e in gadget.events()
        if e["runtime"]["containerName"] == victim.name
    ]
    # Its first ones may come while there is no time for reading.
    assert "the_function" in named[-1]


@pytest.fixture(scope="module")
def probing(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(image_tar(tmp_path_factory.mktemp("gadget"), GADGETS / "user_functions"))


def symbols(count: int, size: int) -> bytes:
    """An ELF file of *count* functions that share one name of *size* bytes, which does not end."""
    header = struct.pack("<4sBBB9x", b"\x7fELF", 2, 1, 1)
    table_at, names_at = 64, 64 + 24 * count
    sections_at = names_at + size
    header += struct.pack("<HHIQQQ", 3, 62, 1, 0, 0, sections_at)
    header += struct.pack("<IHHHHHH", 0, 64, 56, 0, 64, 3, 0)
    table = struct.pack("<IBBHQQ", 1, 18, 0, 1, 4096, 16) * count
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, table_at, 24 * count, 2, 1, 8, 24)
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, names_at, size, 0, 0, 1, 0)
    return header + table + b"n" * size + sections


LIBC = "lib/libc.so.6"
CACHE = "etc/ld.so.cache"


def put(root: Path, kind: str) -> None:
    """Make what a container can have at the places where libraries are looked for."""
    library, cache = root / LIBC, root / CACHE
    library.parent.mkdir(exist_ok=True)
    match kind:
        case "cache is a FIFO":
            os.mkfifo(cache)
        case "cache leads to a file of the kernel":
            cache.symlink_to("/proc/kmsg")
        case "cache leads out":
            cache.symlink_to("../../../../../../etc/ld.so.cache")
        case "cache is sparse":
            with cache.open("wb") as file:
                file.truncate(1 << 40)
        case "cache is damaged":
            cache.write_bytes(b"glibc-ld.so.cache1.1" + b"\xff" * (1 << 20))
        case "library is a FIFO":
            os.mkfifo(library)
        case "library is a device":
            os.mknod(library, 0o666 | 0o020000, os.makedev(1, 5))
        case "library is sparse":
            with library.open("wb") as file:
                file.truncate(1 << 40)
        case "library of 65,535 sections":
            head = bytearray(symbols(1, 64))
            head[60:62] = b"\xff\xff"
            with library.open("wb") as file:
                file.write(head)
                file.truncate(1 << 40)
        case "library of long names":
            library.write_bytes(symbols(1_000_000, 1 << 20))
        case "many libraries":
            for number in range(20_000):
                (library.parent / f"libc.so.{number}").symlink_to("libc.so.x\x1b[2J")


PLACES = (
    "cache is a FIFO",
    "cache leads to a file of the kernel",
    "cache leads out",
    "cache is sparse",
    "cache is damaged",
    "library is a FIFO",
    "library is a device",
    "library is sparse",
    "library of 65,535 sections",
    "library of long names",
    "many libraries",
    "library is replaced",
)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return runc_spec(tmp_path_factory.mktemp("spec"))


class Containers:
    """Containers with a program that calls a function of its C library, or waits."""

    def __init__(self, directory: Path, spec: dict[str, Any]) -> None:
        self._directory = directory
        self._spec = spec
        self._runtime = Runtime("runc", str(directory / "state"))
        self._names: list[str] = []

    def start(self, name: str, layout: str, *command: str, place: str = "") -> Path:
        bundle = self._directory / name
        tree = make_tree(bundle / "tree", layout, "user_functions", self._directory)
        put(tree, place)
        config = {**self._spec, "root": {"path": str(tree), "readonly": True}}
        config["process"] = {**config["process"], "args": [PROGRAM, *command]}
        (bundle / "config.json").write_text(json.dumps(config))
        self._names.append(name)
        self._runtime.run(name, bundle)
        return tree

    def remove(self) -> None:
        for name in self._names:
            self._runtime.remove(name)


@pytest.fixture
def containers(tmp_path: Path, spec: dict[str, Any]) -> Iterator[Containers]:
    found = Containers(tmp_path / "containers", spec)
    (tmp_path / "containers").mkdir()
    yield found
    found.remove()


def replace_quickly(library: Path, ended: threading.Event) -> None:
    """A library that is another file, and one that is truncated, at every moment."""
    other = library.with_name("other")
    content = Path("/proc/self/exe").read_bytes()[: 1 << 20]
    while not ended.is_set():
        shutil.copy("/proc/self/exe", other)
        other.rename(library)
        library.write_bytes(content)
        os.truncate(library, 0)


def test_libraries_that_are_looked_for(
    tmp_path: Path, probing: str, containers: Containers
) -> None:
    """Later containers are attached to all the same."""
    victims = [f"{OWN}-victim-{number}" for number in range(3)]
    hostile = [f"{OWN}-hostile-{number}" for number in range(len(PLACES))]
    ended = threading.Event()
    with tracing(tmp_path / "run", probing, "-c", ",".join(hostile + victims)) as gadget:
        gadget.wait_running()
        for name, place in zip(hostile, PLACES, strict=True):
            tree = containers.start(name, "static", "wait", place=place)
        quick = threading.Thread(target=replace_quickly, args=(tree / LIBC, ended))
        quick.start()
        try:
            for name in victims:
                containers.start(name, "usual", "repeat", str(CALLS))
            for name in victims:
                wait_for(lambda name=name: name in gadget.out, f"calls of {name}", 60)  # type: ignore[misc]
        finally:
            ended.set()
            quick.join()
        peak, cpu = peak_mib(gadget), cpu_seconds(gadget)
        assert gadget.end() == 0, gadget.err
    assert {e["runtime"]["containerName"] for e in gadget.events()} == set(victims)
    assert peak < MOST_MIB
    assert cpu < deadline(10), f"{cpu:.1f} s"
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", gadget.err)
    assert "Traceback" not in gadget.err
    for name in hostile[:-1]:
        assert f"'{name}'" in gadget.err, "what cannot be attached is told"
    print(f"{cpu:.1f} s, {peak} MiB")
