"""The arguments of a program that a process is about to execute, while the kernel holds it there.

A process that waits in execve(2) for fanotify's answer still has the command line of the program
that it executed before. The new arguments are in its memory, where the system call's arguments
point to (proc(5), /proc/PID/syscall and /proc/PID/mem).
"""

from __future__ import annotations

import os
import struct

from ig_py.host.files import HostReadError, read_text

MAX_ARGUMENTS = 256
MAX_ARGUMENT = 4096
"""Bytes of one argument."""
_POINTER = struct.Struct("=Q")
_ARGV_OF = {
    "x86_64": {59: 1, 322: 2},
    "aarch64": {221: 1, 281: 2},
}
"""Architecture → number of execve and execveat → which of its arguments the arguments are."""


def arguments_to_execute(proc: str, pid: int) -> list[str] | None:
    """The arguments that the process *pid* gives to the program that it executes at this moment;
    None when it executes none, or the kernel does not tell.

    The memory of a process can be a file of a FUSE server, or wait for a user of userfaultfd(2):
    then this waits, too. Ask a process of another user in a thread only.
    """
    numbers = _ARGV_OF.get(os.uname().machine, {})
    try:
        words = read_text(f"{proc}/{pid}/syscall").split()
        place = numbers.get(int(words[0]))
        if place is None:
            return None
        fd = os.open(f"{proc}/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError, IndexError, HostReadError):
        return None
    try:
        return _read_arguments(fd, int(words[1 + place], 16))
    except (OSError, ValueError, IndexError):
        return None
    finally:
        os.close(fd)


def _read_arguments(fd: int, address: int) -> list[str]:
    found = []
    for index in range(MAX_ARGUMENTS):
        raw = os.pread(fd, _POINTER.size, address + index * _POINTER.size)
        (pointer,) = _POINTER.unpack(raw.ljust(_POINTER.size, b"\0"))
        if not pointer:
            break
        found.append(_read_text(fd, pointer))
    return found


def _read_text(fd: int, address: int) -> str:
    """The text at *address*; its first :data:`MAX_ARGUMENT` bytes when it is longer."""
    page = os.sysconf("SC_PAGE_SIZE")
    found = b""
    while len(found) < MAX_ARGUMENT and b"\0" not in found:
        at = address + len(found)
        # The page after the one with the end may not be there.
        part = os.pread(fd, min(page - at % page, MAX_ARGUMENT - len(found)), at)
        if not part:
            break
        found += part
    return os.fsdecode(found.split(b"\0", 1)[0])
