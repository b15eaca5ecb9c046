"""Pins by name that a run makes, and removes at its end.

Maps that gadgets share by their names are pinned in the BPF file system. Every pin that a run made
has a record there: a directory named after the map and the pin's inode, which each run that uses
the map locks shared (flock(2)). The last one at its end removes pin and record; what a killed run
left, whose lock the kernel freed, the next run removes. A pin without a record is another program's
and stays.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ig_py.host import bpffs

RECORDS = "ig_py_pins"
"""The directory of records. Names with a dot are reserved there (kernel/bpf/inode.c)."""
LOCK_SECONDS = 5.0
"""Longest wait for another run that loads its maps."""
_STEP = 0.02

T = TypeVar("T")


class RunPins:
    """Pins of the maps *names*, as far as this run makes or uses them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._used: list[tuple[str, int]] = []
        """Record's name and locked descriptor."""
        self._root = -1

    def around(self, load: Callable[[], T]) -> T:
        """Do *load*, which pins those maps or uses pins that are there."""
        if not bpffs.mounted():
            return load()
        with suppress(OSError):
            self._root = _open_records(make=True)
        if self._root < 0:
            return load()
        with _exclusive(self._root):
            _sweep(self._root)
            before = {name: _inode(name) for name in self._names}
            try:
                return load()
            finally:
                for name in self._names:
                    if inode := _inode(name):
                        self._use(f"{name}-{inode}", made=inode != before[name])

    def release(self, seconds: float = LOCK_SECONDS) -> None:
        """Remove what this run made, but what another run uses. Idempotent."""
        if self._root < 0:
            return
        with _exclusive(self._root, seconds):
            while self._used:
                name, fd = self._used.pop()
                _remove_unused(self._root, name, fd)
                os.close(fd)
        os.close(self._root)
        self._root = -1
        _running.discard(self)

    def _use(self, record: str, *, made: bool) -> None:
        with suppress(OSError):
            if made:
                os.mkdir(record, 0o700, dir_fd=self._root)
            fd = _open_record(self._root, record)
            fcntl.flock(fd, fcntl.LOCK_SH)
            self._used.append((record, fd))
            _running.add(self)


_running: set[RunPins] = set()


def release_all() -> None:
    """Remove the pins of this process's runs, without waiting for others: it ends now."""
    for pins in list(_running):
        pins.release(0)


def sweep() -> None:
    """Remove pins that killed runs left; best effort."""
    if not (bpffs.BPFFS / RECORDS).is_dir():
        return
    with suppress(OSError):
        root = _open_records(make=False)
        try:
            with _exclusive(root, 0):
                _sweep(root)
        finally:
            os.close(root)


def _open_records(*, make: bool) -> int:
    """The directory of records; OSError where it is not root's alone."""
    path = bpffs.BPFFS / RECORDS
    if make:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    facts = os.fstat(fd)
    if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o022:
        # A BPF file system that is mounted by hand is open to every user.
        os.close(fd)
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(path))
    return fd


def _open_record(root: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=root)


@contextmanager
def _exclusive(root: int, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """One run at a time; without that after *seconds*, since another one may be stopped."""
    end = time.monotonic() + seconds
    locked = False
    while not locked:
        try:
            fcntl.flock(root, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except OSError:
            if time.monotonic() >= end:
                break
            time.sleep(_STEP)
    try:
        yield
    finally:
        if locked:
            fcntl.flock(root, fcntl.LOCK_UN)


def _sweep(root: int) -> None:
    for name in os.listdir(root):
        with suppress(OSError):
            fd = _open_record(root, name)
            _remove_unused(root, name, fd)
            os.close(fd)


def _remove_unused(root: int, record: str, fd: int) -> None:
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        name, _, inode = record.rpartition("-")
        if name and _inode(name) == int(inode):
            _pin(name).unlink()
        os.rmdir(record, dir_fd=root)


def _pin(name: str) -> Path:
    return bpffs.BPFFS / name


def _inode(name: str) -> int:
    """Of a map's pin; 0: there is none."""
    try:
        facts = _pin(name).lstat()
    except OSError:
        return 0
    return facts.st_ino if stat.S_ISREG(facts.st_mode) else 0
