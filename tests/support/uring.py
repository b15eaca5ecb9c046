"""connect() by io_uring: one submission to a ring of its own."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct

_SETUP, _ENTER = 425, 426
_SQPOLL = 2
_GETEVENTS, _SQ_WAKEUP = 1, 2
_OP_CONNECT = 16
_PARAMS_SIZE = 120
_SQ_TAIL, _SQ_ARRAY = 44, 64
"""Of the offsets in struct io_uring_params."""
_ENTRIES = 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: int) -> int:
    result = int(_libc.syscall(number, *(ctypes.c_long(a) for a in arguments)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Ring:
    """A ring for one submission; *polled*: a thread of the kernel takes it.

    OSError where the kernel has no io_uring.
    """

    def __init__(self, polled: bool = False) -> None:
        params = ctypes.create_string_buffer(_PARAMS_SIZE)
        struct.pack_into("=II", params, 8, _SQPOLL if polled else 0, 0)
        struct.pack_into("=I", params, 16, 1000)
        self.fd = _syscall(_SETUP, 4, ctypes.addressof(params))
        self._tail, self._array = (
            struct.unpack_from("=I", params, at)[0] for at in (_SQ_TAIL, _SQ_ARRAY)
        )
        self._queue = mmap.mmap(self.fd, mmap.PAGESIZE, mmap.MAP_SHARED)
        self._entries = mmap.mmap(self.fd, mmap.PAGESIZE, mmap.MAP_SHARED, offset=_ENTRIES)

    def connect(self, s: socket.socket, address: tuple[str, int]) -> None:
        """Connects an IPv4 socket, and waits for it."""
        raw = struct.pack("=H", socket.AF_INET) + struct.pack("!H", address[1])
        name = ctypes.create_string_buffer(raw + socket.inet_aton(address[0]), 16)
        struct.pack_into(
            *("=BBHiQQ", self._entries, 0, _OP_CONNECT, 0, 0, s.fileno()),
            *(len(name), ctypes.addressof(name)),
        )
        struct.pack_into("=I", self._queue, self._array, 0)
        struct.pack_into("=I", self._queue, self._tail, 1)
        _syscall(_ENTER, self.fd, 1, 1, _GETEVENTS | _SQ_WAKEUP, 0, 0)

    def close(self) -> None:
        self._queue.close()
        self._entries.close()
        os.close(self.fd)
