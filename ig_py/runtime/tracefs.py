"""Attaching where tracefs is not mounted, leaving no mount behind.

libbpf reads a tracepoint's id from tracefs. Mounting it for everybody is not
ours to do; a thread in a mount namespace of its own may, and its mount goes
with the thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ig_py.errors import KernelError

TRACEFS = Path("/sys/kernel/tracing")
_DEBUGFS = Path("/sys/kernel/debug/tracing")
_CLONE_NEWNS = 0x20000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18

_USERS = frozenset(
    [
        *("tp", "tracepoint"),
        *("kprobe", "kretprobe", "ksyscall", "kretsyscall"),
        *("uprobe", "uretprobe", "usdt"),
    ]
)
"""Tracepoints always; the others on kernels without their perf event sources."""

T = TypeVar("T")


def mounted() -> bool:
    """True when tracepoint ids can be read as the system stands."""
    return any((root / "events").is_dir() for root in (TRACEFS, _DEBUGFS))


def needs_tracefs(section: str) -> bool:
    """Does libbpf read tracefs to attach a program of this section?"""
    return section.lstrip("?").split("/", 1)[0].split(".", 1)[0] in _USERS


def with_tracefs(work: Callable[[], T]) -> T:
    """Run *work* where tracefs can be read: here, or in a thread that mounts it for itself.

    Raises what *work* raises, and :class:`KernelError` when mounting fails.
    """
    if mounted():
        return work()
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _mount_privately()
            results.append(work())
        except BaseException as err:
            failures.append(err)

    thread = threading.Thread(target=run, name="ig-py-attach")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _mount_privately() -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            why = os.strerror(ctypes.get_errno())
            raise KernelError(
                f"reading tracepoints: {what}: {why}", remedy=f"mount tracefs at {TRACEFS}"
            )

    check(libc.unshare(_CLONE_NEWNS), "making a mount namespace")
    check(
        libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None),
        "making mounts private",
    )
    check(
        libc.mount(b"tracefs", str(TRACEFS).encode(), b"tracefs", ctypes.c_ulong(0), None),
        "mounting tracefs",
    )
