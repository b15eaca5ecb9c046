"""File systems mounted for one piece of work, or, where the user says so, for the whole host.

Without the user's word no file system is mounted in the host's mount namespace. A thread mounts it
in a mount namespace of its own, which ends with the thread (mount_namespaces(7)).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ig_py.errors import KernelError
from ig_py.host.libc import file_system_magic, libc

_CLONE_NEWNS = 0x20000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18

_KINDS = {"bpf": 0xCAFE4A11, "debugfs": 0x64626720, "tracefs": 0x74726163}
"""Name of a file system → its ``f_type`` (statfs(2), linux/magic.h)."""
FOR_TRACING = (
    ("bpf", Path("/sys/fs/bpf")),
    ("debugfs", Path("/sys/kernel/debug")),
    ("tracefs", Path("/sys/kernel/tracing")),
)

T = TypeVar("T")


def with_mount(kind: str, place: Path, work: Callable[[], T], attempt: str) -> T:
    """Run *work* in a thread that has a file system of *kind* at *place*.

    *attempt*: what the error says was attempted.

    Raises:
        KernelError: Mounting fails. Besides, what *work* raises.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _mount(kind, place, attempt)
            results.append(work())
        except BaseException as err:
            failures.append(err)

    thread = threading.Thread(target=run, name=f"ig-py-{kind}")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def mount_missing(places: Sequence[tuple[str, Path]] = FOR_TRACING) -> list[str]:
    """Mount, for the whole host and to stay, those of *places* that are not mounted yet.

    Returns why each of those that could not be mounted could not.
    """
    failures = []
    for kind, place in places:
        if not is_mounted(kind, place):
            try:
                _mount_here(kind, place, str(place))
            except KernelError as error:
                failures.append(error.message)
    return failures


def is_mounted(kind: str, place: Path) -> bool:
    """Is a file system of *kind* (one of :data:`FOR_TRACING`'s) at *place*?"""
    try:
        return file_system_magic(place) == _KINDS[kind]
    except OSError:
        return False


def _mount(kind: str, place: Path, attempt: str) -> None:
    c, check = _calls(kind, place, attempt)
    check(c.unshare(_CLONE_NEWNS), "making a mount namespace")
    check(
        c.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None),
        "making mounts private",
    )
    _mount_here(kind, place, attempt)


def _mount_here(kind: str, place: Path, attempt: str) -> None:
    c, check = _calls(kind, place, attempt)
    name = kind.encode()
    check(c.mount(name, os.fsencode(place), name, 0, None), f"mounting {kind}")


def _calls(kind: str, place: Path, attempt: str) -> tuple[Any, Callable[[int, str], None]]:
    import ctypes

    c = libc()
    c.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]

    def check(result: int, what: str) -> None:
        if result != 0:
            why = os.strerror(ctypes.get_errno())
            raise KernelError(f"{attempt}: {what}: {why}", remedy=f"mount {kind} at {place}")

    return c, check
