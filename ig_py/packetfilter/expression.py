"""From an expression to classic BPF, by libpcap (pcap-filter(7), pcap_compile(3PCAP))."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_uint, c_uint32, c_void_p
from typing import ClassVar, NamedTuple

from ig_py.errors import UsageError

MAX_EXPRESSION = 4096
MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS of the kernel's classic filters."""
_LIBRARIES = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so")
_ETHERNET = 1
_SNAPLEN = 65535
_NETMASK_UNKNOWN = 0xFFFFFFFF


class Classic(NamedTuple):
    """One instruction of classic BPF (struct sock_filter)."""

    code: int
    jt: int
    jf: int
    k: int


class _Instruction(ctypes.Structure):
    _fields_: ClassVar = [
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_: ClassVar = [("count", c_uint), ("instructions", POINTER(_Instruction))]


def compiled(expression: str, flag: str) -> list[Classic]:
    """The filter for frames of Ethernet.

    Raises:
        UsageError: libpcap is not installed, or refuses the value of *flag*.
    """
    if len(expression) > MAX_EXPRESSION or "\0" in expression:
        raise UsageError(f"{flag}: an expression has at most {MAX_EXPRESSION} characters, no NUL")
    library = _library(flag)
    handle = library.pcap_open_dead(_ETHERNET, _SNAPLEN)
    if not handle:
        raise UsageError(f"{flag}: libpcap has no memory")
    program = _Program()
    try:
        text = expression.encode(errors="replace")
        if library.pcap_compile(handle, byref(program), text, 1, _NETMASK_UNKNOWN):
            why = library.pcap_geterr(handle).decode(errors="replace")
            raise UsageError(f"{flag} {expression!a}: {why}", remedy="see pcap-filter(7)")
        try:
            if program.count > MAX_INSTRUCTIONS:
                raise UsageError(f"{flag}: the filter has {program.count} instructions, too many")
            found = program.instructions[: program.count]
            return [Classic(i.code, i.jt, i.jf, i.k) for i in found]
        finally:
            library.pcap_freecode(byref(program))
    finally:
        library.pcap_close(handle)


def _library(flag: str) -> ctypes.CDLL:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.pcap_open_dead.restype = c_void_p
        library.pcap_open_dead.argtypes = [c_int, c_int]
        library.pcap_compile.argtypes = [c_void_p, POINTER(_Program), c_char_p, c_int, c_uint32]
        library.pcap_geterr.restype = c_char_p
        library.pcap_geterr.argtypes = [c_void_p]
        library.pcap_freecode.argtypes = [POINTER(_Program)]
        library.pcap_close.argtypes = [c_void_p]
        return library
    raise UsageError(
        f"{flag}: packet filters need libpcap, which is not installed",
        remedy="install libpcap (Debian: libpcap0.8)",
    )
