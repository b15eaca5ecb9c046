"""Reading small files of the kernel, and telling what is absent from what cannot be known.

A file that is not there is an answer: its process has ended, or the kernel has no such feature. A
file that cannot be read for want of descriptors or memory, or by an error of the device, may be
there: :class:`HostReadError`. Callers either try again, or count what they may have missed by it
(:class:`ReadFailures`).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Iterator

from ig_py.errors import ContainerError
from ig_py.host.descriptors import REMEDY, USED_UP

log = logging.getLogger(__name__)

MAX_FILE = 64 * 1024
"""Bytes read of one /proc or cgroup file."""
ABSENT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ESRCH,
        errno.ENODEV,
        errno.EOPNOTSUPP,
        errno.ENAMETOOLONG,
    }
)
"""There is no such file, process, or control group any more; threaded control groups have no
cgroup.procs (Documentation/admin-guide/cgroup-v2.rst). Any user can make directories that no path
reaches (PATH_MAX): engines do not."""
DENIED = frozenset({errno.EACCES, errno.EPERM})
"""There are no rights: without CAP_SYS_PTRACE a part of /proc cannot be read (proc(5))."""


class HostReadError(ContainerError):
    """A file or a process of the host may be there, and cannot be read.

    Attributes:
        number: The error's number (errno(3)); 0 where it has none.
    """

    def __init__(self, path: str, error: OSError) -> None:
        self.number = error.errno or 0
        used_up = self.number in USED_UP
        super().__init__(
            f"reading {path!a}: {error.strerror or error}", remedy=REMEDY if used_up else ""
        )


def require_absent(path: str, error: OSError, *, denied: bool = False) -> None:
    """Return when *error* says that *path* is not there; with *denied* also when there are no
    rights to look.

    Raises:
        HostReadError: It may be there.
    """
    if error.errno not in ABSENT and not (denied and error.errno in DENIED):
        raise HostReadError(path, error) from error


class ReadFailures:
    """What could not be read of the host, so that a container may have been missed: told once for
    each kind of error, and counted. Thread-safe."""

    def __init__(self) -> None:
        self.count = 0
        self._said: set[int] = set()
        self._lock = threading.Lock()

    def add(self, error: HostReadError) -> None:
        with self._lock:
            self.count += 1
            first = error.number not in self._said
            self._said.add(error.number)
        log.log(
            logging.WARNING if first else logging.DEBUG,
            "%s%s",
            error,
            "; processes and containers may be missed, more of these errors are counted only"
            if first
            else "",
        )


@contextlib.contextmanager
def held(directory: str) -> Iterator[str]:
    """A path of *directory* that means the same one as long as it is held.

    Of /proc/PID: what is below it is absent once the process has ended, also when its number is
    another process's by then. The directory itself is absent as usual when it ended before.

    Raises:
        HostReadError: It may be there, and cannot be opened.
    """
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        require_absent(directory, error)
        yield directory
        return
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def is_there(path: str) -> bool:
    """Whether *path* exists; False where there are no rights to look.

    Raises:
        HostReadError: That cannot be known.
    """
    try:
        os.stat(path)  # noqa: PTH116 (magic links of /proc)
    except OSError as error:
        require_absent(path, error, denied=True)
        return False
    return True


def inode(path: str) -> int | None:
    """Inode number of *path*, such as of a namespace; None when it is not there, or may not be
    looked at.

    Raises:
        HostReadError: That cannot be known.
    """
    try:
        return os.stat(path).st_ino  # noqa: PTH116 (magic links of /proc)
    except OSError as error:
        require_absent(path, error, denied=True)
        return None


def read_bytes(path: str, most: int = MAX_FILE, *, denied: bool = False) -> bytes:
    """At most *most* bytes of a small kernel file; b"" when it is not there, and with *denied*
    also when it may not be read.

    Raises:
        HostReadError: It may be there, and cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        require_absent(path, error, denied=denied)
        return b""
    try:
        chunks = []
        while most and (chunk := os.read(fd, most)):
            chunks.append(chunk)
            most -= len(chunk)
    except OSError as error:
        require_absent(path, error, denied=denied)
        return b""
    finally:
        os.close(fd)
    return b"".join(chunks)


def read_text(path: str, *, denied: bool = False) -> str:
    """As :func:`read_bytes`, as text.

    Raises:
        HostReadError: It may be there, and cannot be read.
    """
    return read_bytes(path, denied=denied).decode("utf-8", "replace")
