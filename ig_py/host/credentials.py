"""The user for whom a process acts, and the owners of its namespaces.

A process is the host's root only when it has user id 0 and CAP_SYS_ADMIN in the first user
namespace. User id 0 in a container without a user namespace is the same number without the
capability; user id 0 in a user namespace is the user who made that (user_namespaces(7)).
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from functools import cache

from ig_py.host.files import held, inode, read_bytes, read_text
from ig_py.records import dataclass

FIRST_USER_NAMESPACE = 0xEFFFFFFD
"""Inode number of the first user namespace (kernel: PROC_USER_INIT_INO)."""
MAX_LEVELS = 33
"""User namespaces below each other: the kernel allows 32 (user_namespaces(7)), and the first."""

_NS_GET_USERNS = 0xB701
_NS_GET_PARENT = 0xB702
_NS_GET_OWNER_UID = 0xB704
_CAP_SYS_ADMIN = 1 << 21
_AT_SECURE = 23
_ALL_IDS = ["0", "0", "4294967295"]
_AUX_ENTRY = struct.Struct("=QQ" if sys.maxsize > 2**32 else "=II")


@dataclass(frozen=True, slots=True)
class Credentials:
    """``uids``: real, effective, saved and file system user id, in our user namespace.
    ``first``: it is in the first user namespace. ``secure``: the program had the rights of its
    file (set-user-ID or file capabilities), so that another user wrote its arguments
    (getauxval(3), AT_SECURE). ``mount_ns``: inode number, 0 where it may not be read."""

    uids: tuple[int, ...]
    effective: int
    first: bool
    secure: bool
    mount_ns: int

    @property
    def administers_host(self) -> bool:
        """Whether it is the host's root, with arguments of root's."""
        admin = bool(self.effective & _CAP_SYS_ADMIN)
        return set(self.uids) == {0} and admin and self.first and not self.secure


def credentials(proc: str, pid: int) -> Credentials | None:
    """Of the process *pid* of the file system *proc*; None when it has ended.

    Raises:
        HostReadError: It may be there, and cannot be read.
    """
    with held(f"{proc}/{pid}") as process:
        return credentials_of(process)


def credentials_of(process: str) -> Credentials | None:
    """As :func:`credentials`, of a directory of /proc that is held."""
    pairs = (line.partition(":") for line in read_text(f"{process}/status").splitlines())
    status = {key: value.split() for key, _, value in pairs}
    try:
        return Credentials(
            tuple(int(uid) for uid in status["Uid"]),
            int(status["CapEff"][0], 16),
            _in_first_namespace(process),
            _is_secure(read_bytes(f"{process}/auxv", denied=True)),
            inode(f"{process}/ns/mnt") or 0,
        )
    except (KeyError, IndexError, ValueError):
        return None


@cache
def first_user_namespace() -> int:
    """The first user namespace; where this process is in another one, that one, above which
    nothing can be seen."""
    return inode("/proc/self/ns/user") or FIRST_USER_NAMESPACE


def namespace_owner(fd: int) -> int | None:
    """User id of the user to whom the namespace of the descriptor *fd* belongs; None for the
    host's root.

    A namespace belongs to the user namespace in which it was made. That one, or the one around it
    and so on, was made by a user in the first user namespace.

    Raises:
        OSError: *fd* is of no namespace, or the kernel does not tell (before Linux 4.11).
    """
    opened: list[int] = []
    try:
        opened.append(fcntl.ioctl(fd, _NS_GET_USERNS))
        inner = None
        while os.fstat(opened[-1]).st_ino != first_user_namespace():
            if len(opened) > MAX_LEVELS:
                raise OSError("more user namespaces than the kernel allows")
            inner = opened[-1]
            opened.append(fcntl.ioctl(inner, _NS_GET_PARENT))
        if inner is None:
            return None
        found = fcntl.ioctl(inner, _NS_GET_OWNER_UID, b"\0" * 4)
        return int.from_bytes(found, sys.byteorder)
    finally:
        for each in opened:
            os.close(each)


def _in_first_namespace(process: str) -> bool:
    if number := inode(f"{process}/ns/user"):
        return number == first_user_namespace()
    # Without CAP_SYS_PTRACE. Only the first one has all ids, unless root makes such another one.
    return read_text(f"{process}/uid_map").split() == _ALL_IDS


def _is_secure(auxv: bytes) -> bool:
    """False as well where it may not be read, without CAP_SYS_PTRACE."""
    for at in range(0, len(auxv) - _AUX_ENTRY.size + 1, _AUX_ENTRY.size):
        key, value = _AUX_ENTRY.unpack_from(auxv, at)
        if key == _AT_SECURE:
            return bool(value)
    return False
