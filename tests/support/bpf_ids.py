"""Ids and names of the BPF programs and maps in the kernel (bpf(2))."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Literal

Kind = Literal["program", "map"]

_SYSCALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]
_NEXT_ID = {"program": 11, "map": 12}
_FD_BY_ID = {"program": 13, "map": 14}
_INFO_BY_FD = 15
# Offset of ``name`` in struct bpf_prog_info and struct bpf_map_info.
_NAME = {"program": 64, "map": 24}
_NAME_SIZE = 16
_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    result = _libc.syscall(_SYSCALL, command, attributes, len(attributes))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(result)


def _info(kind: Kind, number: int) -> bytes | None:
    """struct bpf_map_info and its like of the one with that id; None when it is gone."""
    try:
        fd = _bpf(_FD_BY_ID[kind], ctypes.create_string_buffer(struct.pack("<III", number, 0, 0)))
    except FileNotFoundError:
        return None
    try:
        info = ctypes.create_string_buffer(256)
        address = ctypes.addressof(info)
        _bpf(_INFO_BY_FD, ctypes.create_string_buffer(struct.pack("<IIQ", fd, 256, address)))
        return info.raw
    finally:
        os.close(fd)


def name(kind: Kind, number: int) -> str | None:
    """Of the one with that id; None when it is gone."""
    info = _info(kind, number)
    if info is None:
        return None
    start = _NAME[kind]
    return info[start : start + _NAME_SIZE].split(b"\0", 1)[0].decode()


def max_entries(number: int) -> int | None:
    """Of the map with that id; None when it is gone."""
    info = _info("map", number)
    # type, id, key_size, value_size, max_entries of struct bpf_map_info.
    return None if info is None else int(struct.unpack_from("<5I", info)[4])


def ids(kind: Kind) -> dict[int, str]:
    """Id → name of everything of *kind* that is alive. Needs root."""
    found: dict[int, str] = {}
    number = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("<III", number, 0, 0))
        try:
            _bpf(_NEXT_ID[kind], attributes)
        except FileNotFoundError:
            return found
        (number,) = struct.unpack_from("<I", attributes.raw, 4)
        known = name(kind, number)
        if known is not None:
            found[number] = known
