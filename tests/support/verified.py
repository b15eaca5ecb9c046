"""How much work the verifier had with the programs of an object (``verified_insns``)."""

from __future__ import annotations

import ctypes
import os
import struct

from support import bpf_syscall

_GET_FD_BY_ID, _INFO_BY_FD = 13, 15
_INFO_SIZE = 232
_NAME, _NAME_SIZE = 64, 16
# In struct bpf_prog_info, since Linux 5.16.
_VERIFIED_INSNS = 216


def verified(program_ids: list[int]) -> dict[str, int]:
    """Name → instructions that the verifier walked through (0: the kernel does not say)."""
    found = {}
    for number in program_ids:
        fd = bpf_syscall.call(_GET_FD_BY_ID, struct.pack("=III", number, 0, 0))
        try:
            info = ctypes.create_string_buffer(_INFO_SIZE)
            request = struct.pack("=IIQ", fd, _INFO_SIZE, ctypes.addressof(info))
            bpf_syscall.call(_INFO_BY_FD, request)
        finally:
            os.close(fd)
        name = info.raw[_NAME : _NAME + _NAME_SIZE].split(b"\0", 1)[0].decode()
        found[name] = struct.unpack_from("=I", info.raw, _VERIFIED_INSNS)[0]
    return found
