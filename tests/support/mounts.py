"""Mounts that only this test sees: the file systems for tracing, there or not.

A machine has tracefs, debugfs and bpffs mounted (systemd does that) or has not. A test whose
outcome depends on it asks for one of the two, in a mount namespace of its own, so that it leaves
the machine's mounts and pins as they were.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

BPFFS = Path("/sys/fs/bpf")
DEBUGFS = Path("/sys/kernel/debug")
TRACEFS = Path("/sys/kernel/tracing")
_FOR_TRACING = {BPFFS: "bpf", DEBUGFS: "debugfs", TRACEFS: "tracefs"}
_CLONE_FS = 0x200
_CLONE_NEWNS = 0x20000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def private() -> Iterator[None]:
    """The calling thread has a mount namespace of its own for the block, and so have the threads
    and processes that it starts. Mounts made there are gone afterwards. OSError without root."""
    before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        directory = Path.cwd()
        _check(_libc.unshare(_CLONE_NEWNS), "unshare")
        try:
            _check(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "private mounts")
            yield
        finally:
            # setns(2) needs that no other thread shares the root and the working directory.
            _check(_libc.unshare(_CLONE_FS), "unshare")
            _check(_libc.setns(before, _CLONE_NEWNS), "setns")
            os.chdir(directory)
    finally:
        os.close(before)


@contextlib.contextmanager
def pins_end_with_the_block() -> Iterator[None]:
    """As the machine is, but where a bpffs is mounted it is another one: pins end with it."""
    with private():
        if _is_mounted("bpf", BPFFS):
            mount("bpf", BPFFS)
        yield


@contextlib.contextmanager
def bpffs_mounted() -> Iterator[None]:
    """A bpffs of its own is mounted for the block."""
    with private():
        mount("bpf", BPFFS)
        yield


@contextlib.contextmanager
def bpffs_unmounted() -> Iterator[None]:
    """No bpffs can be seen in the block."""
    with private():
        mount("tmpfs", BPFFS)
        yield


@contextlib.contextmanager
def tracing_mounted() -> Iterator[None]:
    """tracefs, debugfs and a bpffs of its own are mounted for the block."""
    with private():
        for place, kind in _FOR_TRACING.items():
            # There is one debugfs and one tracefs: over itself neither can be mounted.
            if place.is_dir() and (kind == "bpf" or not _is_mounted(kind, place)):
                mount(kind, place)
        yield


@contextlib.contextmanager
def tracing_unmounted() -> Iterator[None]:
    """Neither tracefs nor debugfs nor bpffs can be seen in the block.

    For what is refused there: libbpf remembers, for as long as the process lives, that it saw
    debugfs once, and then looks for tracepoints nowhere else.
    """
    with private():
        for place in _FOR_TRACING:
            if place.is_dir():
                mount("tmpfs", place)
        yield


def mount(kind: str, place: Path) -> None:
    """A new file system of *kind* at *place*, in the calling thread's mount namespace."""
    name = kind.encode()
    done = _libc.mount(name, os.fsencode(place), name, ctypes.c_ulong(0), None)
    _check(done, f"mounting {kind} at {place}")


def _is_mounted(kind: str, place: Path) -> bool:
    top = [fields for line in below(place) if (fields := line.split())[1] == str(place)]
    return bool(top) and top[-1][2] == kind


def below(place: Path) -> list[str]:
    """The calling thread's mounts at *place* and below it, as /proc says them."""
    lines = Path("/proc/thread-self/mounts").read_text().splitlines()
    return [line for line in lines if Path(line.split()[1]).is_relative_to(place)]


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
