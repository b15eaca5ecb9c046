"""inotify(7), which Python's standard library lacks."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ig_py.host.libc import libc

IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000
IN_ISDIR = 0x40000000

_HEADER = struct.Struct("iIII")
READ_SIZE = 64 * 1024


class InotifyEvent(NamedTuple):
    """struct inotify_event: watch descriptor (-1 with IN_Q_OVERFLOW), bits, name in a directory."""

    watch: int
    mask: int
    name: str


class Inotify:
    """A non-blocking inotify instance.

    Raises:
        OSError: The user has too many instances or descriptors.
    """

    def __init__(self) -> None:
        self._libc = libc()
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise self._error("inotify")

    def add(self, path: str, mask: int) -> int:
        """Watch *path* for the bits of *mask*; the watch descriptor.

        Raises:
            OSError: There is no such path, it may not be read, or the user has too many watches.
        """
        watch: int = self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask)
        if watch < 0:
            raise self._error(path)
        return watch

    def read(self, size: int = READ_SIZE) -> Iterator[InotifyEvent]:
        """What is there now, *size* bytes of it at most; never waits."""
        try:
            data = os.read(self.fd, size)
        except BlockingIOError:
            return
        offset = 0
        while offset + _HEADER.size <= len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = data[offset : offset + length].rstrip(b"\0")
            offset += length
            yield InotifyEvent(watch, mask, os.fsdecode(name))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _error(self, path: str) -> OSError:
        number = ctypes.get_errno()
        return OSError(number, os.strerror(number), path)
