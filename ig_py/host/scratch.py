"""Temporary directories and files that do not outlive the process, nor stay when it is killed.

Every one has a name of our own and is locked (flock(2)) while its process lives; the kernel frees
the lock with the process. One of ours whose lock is free was left by a process that was killed
(SIGKILL): the next command that makes one of the same kind removes it. Links are not followed, and
what belongs to another user is left alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ig_py.host.removal import remove_tree

PREFIX = "ig-py-scratch-"
MARK = ".ig-py-"
"""Between a file's name and what makes the name of its temporary file unique."""
MAX_SCANNED = 10_000
"""Entries of a directory that are looked at for leftovers."""
_MAX_NAME = 200
_FALLBACKS = ("/tmp", "/var/tmp")

_directories: set[Path] = set()


def base() -> Path:
    """Where temporary directories are: ``$TMPDIR``, else ``/tmp`` or ``/var/tmp``."""
    places = (os.environ.get("TMPDIR", ""), *_FALLBACKS)
    return Path(next((p for p in places if p and Path(p).is_dir()), "/"))


@contextmanager
def scratch_dir() -> Iterator[Path]:
    """A directory that only this user can enter, gone at the end of the block.

    Raises:
        OSError: It cannot be made.
    """
    sweep()
    path, lock = base(), -1
    try:
        while True:
            path = base() / (PREFIX + os.urandom(8).hex())
            _directories.add(path)
            path.mkdir(mode=0o700)
            with suppress(FileNotFoundError):
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                if _locked(lock) and path.exists():
                    break
                os.close(lock)
            # Another process swept it before it was locked.
            _directories.discard(path)
        yield path
    finally:
        if path in _directories:
            _remove(path)
        if lock >= 0:
            os.close(lock)


def remove_all() -> None:
    """Remove every directory that :func:`scratch_dir` made: the process ends now."""
    for path in list(_directories):
        _remove(path)


def _remove(path: Path) -> None:
    remove_tree(path)
    _directories.discard(path)


def sweep() -> None:
    """Remove directories that killed processes of this user left; best effort."""
    _sweep(base(), PREFIX, directories=True)


@contextmanager
def new_file(target: Path, mode: int | None, *, replace: bool = True) -> Iterator[BinaryIO]:
    """A file that gets the name *target* when the block succeeds; else nothing is left of it.

    *mode*: its permissions; None: those of any new file, as the umask says. Without *replace* there
    may be no *target*.

    Raises:
        FileExistsError: There is one.
        OSError: The file cannot be made, written or named.
    """
    prefix = f".{target.name[:_MAX_NAME]}{MARK}"
    _sweep(target.parent, prefix, directories=False)
    temporary = target
    try:
        while True:
            temporary = target.with_name(prefix + os.urandom(6).hex())
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o666 if mode is None else 0o600)
            if _locked(fd) and os.fstat(fd).st_nlink:
                break
            # Another process swept it before it was locked.
            os.close(fd)
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            if mode is not None:
                os.fchmod(fd, mode)
            os.fsync(fd)
            _name(temporary, target, replace)
    finally:
        if temporary != target:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _name(temporary: Path, target: Path, replace: bool) -> None:
    if replace:
        temporary.replace(target)
        return
    try:
        target.hardlink_to(temporary)
    except OSError as err:
        if err.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # A file system without links, such as a memory stick's.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        temporary.replace(target)


def _locked(fd: int) -> bool:
    """Lock *fd*, for which a sweeping process may have to be waited."""
    # Where a file system has no locks, leftovers are not told from what is in use, and stay.
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX)
    return True


def _sweep(directory: Path, prefix: str, *, directories: bool) -> None:
    with suppress(OSError):
        base_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os.scandir(base_fd) as entries:
                names = [
                    entry.name
                    for _, entry in zip(range(MAX_SCANNED), entries, strict=False)
                    if entry.name.startswith(prefix)
                ]
            for name in names:
                _sweep_one(base_fd, name, directories)
        finally:
            os.close(base_fd)


def _sweep_one(base_fd: int, name: str, directory: bool) -> None:
    wanted = os.O_DIRECTORY if directory else os.O_NONBLOCK
    with suppress(OSError):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | wanted, dir_fd=base_fd)
        try:
            facts = os.fstat(fd)
            kind = stat.S_ISDIR if directory else stat.S_ISREG
            if not kind(facts.st_mode) or facts.st_uid != os.geteuid():
                return
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if directory:
                remove_tree(name, dir_fd=base_fd)
            else:
                os.unlink(name, dir_fd=base_fd)
        finally:
            os.close(fd)
