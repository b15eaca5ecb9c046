"""The bpf(2) system call, for looking at the kernel from outside."""

from __future__ import annotations

import ctypes
import os
import platform

_NUMBERS = {"x86_64": 321, "aarch64": 280}
_ATTRIBUTES_SIZE = 120
_libc = ctypes.CDLL(None, use_errno=True)


def call(command: int, attributes: bytes) -> int:
    """The result of bpf(*command*, *attributes*), zero-padded; OSError when it fails."""
    return exchange(command, attributes)[0]


def exchange(command: int, attributes: bytes) -> tuple[int, bytes]:
    """As :func:`call`, with the attributes as the kernel left them."""
    buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES_SIZE)
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(f"no bpf system call number known for {platform.machine()}")
    result = _libc.syscall(number, command, buffer, len(buffer))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(result), buffer.raw
