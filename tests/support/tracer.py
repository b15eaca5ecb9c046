"""A tracer seen from outside: its attached programs, and the containers in its filter.

Works for any tool: it reads the process's descriptors in /proc.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from support import bpf_ids, bpf_syscall

_LINKS = ("anon_inode:bpf_link", "anon_inode:bpf-link")
_MAPS = ("anon_inode:bpf-map",)
_LOOKUP_ELEM = 1
_MAP_GET_FD_BY_ID = 14
_MAP_TYPE_HASH = "1"
_KEY_SIZE = "8"
_VALUE_SIZE = 4
_SCOUT = "scout_"
"""Prefix of the names of ig-py's own programs that find containers."""


def _held(pid: int, kinds: tuple[str, ...]) -> Iterator[str]:
    """Numbers of the descriptors of *pid* that are of one of *kinds*; none when it is gone."""
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if str(descriptor.readlink()) in kinds:
                    yield descriptor.name
            except OSError:
                continue
    except OSError:
        return


def links(pid: int) -> int:
    """How many BPF links *pid* holds: one for each attached program of the gadget."""
    programs = bpf_ids.ids("program")
    held = (_facts(pid, descriptor).get("prog_id", "0") for descriptor in _held(pid, _LINKS))
    return sum(1 for number in held if not programs.get(int(number), "").startswith(_SCOUT))


def links_of(pid: int, program: str) -> int:
    """How many links *pid* holds of programs of the kernel's name *program*."""
    ours = {str(number) for number, name in bpf_ids.ids("program").items() if name == program}
    return sum(_facts(pid, fd).get("prog_id") in ours for fd in _held(pid, _LINKS))


def _facts(pid: int, descriptor: str) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _has_key(map_id: int, key: bytes) -> bool:
    value = ctypes.create_string_buffer(_VALUE_SIZE)
    wanted = ctypes.create_string_buffer(key, len(key))
    descriptor = bpf_syscall.call(_MAP_GET_FD_BY_ID, struct.pack("<III", map_id, 0, 0))
    try:
        address, target = ctypes.addressof(wanted), ctypes.addressof(value)
        bpf_syscall.call(_LOOKUP_ELEM, struct.pack("<IxxxxQQQ", descriptor, address, target, 0))
    except FileNotFoundError:
        return False
    finally:
        os.close(descriptor)
    return True


def admits(pid: int, container_pid: int) -> bool:
    """Does a filter map of *pid*, told by its sizes, hold the namespace of *container_pid*?"""
    namespace = Path(f"/proc/{container_pid}/ns/mnt").stat().st_ino
    for descriptor in _held(pid, _MAPS):
        facts = _facts(pid, descriptor)
        if facts.get("map_type") != _MAP_TYPE_HASH or facts.get("key_size") != _KEY_SIZE:
            continue
        fits = facts.get("value_size") == str(_VALUE_SIZE)
        if fits and _has_key(int(facts["map_id"]), struct.pack("<Q", namespace)):
            return True
    return False


def children(pid: int) -> list[int]:
    """Direct children of every thread of *pid*."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in listing.read_text().split()]
        except OSError:
            continue
    return found
