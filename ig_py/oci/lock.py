"""The lock of a store, which ``ig`` takes for writing too."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ig_py.errors import StoreError

LOCK_MODE = 0o600
LOCK_TIMEOUT_S = 120.0
"""Seconds to wait for another writer."""
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
"""Without O_NOFOLLOW, a link that another user made would create a file in another place."""
_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1


@contextmanager
def exclusive(path: Path, timeout: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold an exclusive flock(2) on *path*, made if it is missing.

    Raises:
        StoreError: It is not free within *timeout* seconds.
        OSError: The file cannot be opened or locked.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, LOCK_MODE)
    try:
        _acquire(fd, fcntl.LOCK_EX, path, timeout)
        yield
    finally:
        os.close(fd)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold a shared flock(2) on *path*.

    Raises:
        StoreError: It is not free within :data:`LOCK_TIMEOUT_S` seconds.
        OSError: The file cannot be opened or locked.
    """
    fd = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        _acquire(fd, fcntl.LOCK_SH, path, LOCK_TIMEOUT_S)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, kind: int, path: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE_S
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StoreError(
                    f"locking {path}: held by another process for more than {timeout:g} s",
                    remedy="wait for the other ig or ig-py command, or end it",
                ) from None
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)
