"""A file system that only one piece of work sees.

Mounting for everybody is not ours to do; a thread in a mount namespace of its own may, and
its mount goes with the thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ig_py.errors import KernelError

_CLONE_NEWNS = 0x20000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18

T = TypeVar("T")


def with_mount(kind: str, place: Path, work: Callable[[], T], attempt: str) -> T:
    """Run *work* in a thread that has a file system of *kind* at *place*.

    Raises what *work* raises, and :class:`KernelError` (*attempt*: ...) when mounting fails.
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


def _mount(kind: str, place: Path, attempt: str) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            why = os.strerror(ctypes.get_errno())
            raise KernelError(f"{attempt}: {what}: {why}", remedy=f"mount {kind} at {place}")

    name = kind.encode()
    check(libc.unshare(_CLONE_NEWNS), "making a mount namespace")
    check(
        libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None),
        "making mounts private",
    )
    check(libc.mount(name, os.fsencode(place), name, ctypes.c_ulong(0), None), f"mounting {kind}")
