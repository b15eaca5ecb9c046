"""Resolving a path below a directory that is held open, as openat2(2) does it.

Where the kernel lacks openat2 (before 5.6) or a seccomp profile forbids it, the path is walked
component by component with ``O_PATH | O_NOFOLLOW``, by the same rules.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from enum import IntFlag

from ig_py.host.libc import libc

SYS_OPENAT2 = 437
"""The same number on every architecture (include/uapi/asm-generic/unistd.h)."""
_HOW = struct.Struct("=QQQ")
"""struct open_how: flags, mode, resolve."""
MAX_SYMLINKS = 40
"""As many as the kernel follows in one path (ELOOP)."""
MAX_RACES = 8
"""Times that a path is resolved again because directories were renamed meanwhile (EAGAIN)."""


class Resolve(IntFlag):
    """``open_how.resolve`` of openat2(2)."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10


def open_path(root: int, path: str, resolve: Resolve) -> int:
    """An ``O_PATH`` descriptor of *path* below the directory *root* (a descriptor).

    Nothing is opened for reading: a device, a FIFO or a file system's server notices nothing
    besides the look-up of names.

    *resolve* has ``NO_MAGICLINKS``, and ``BENEATH`` or ``IN_ROOT``. A symbolic link in the last
    place is followed as any other, or refused.

    Raises:
        OSError: ELOOP for a link that is refused, EXDEV for a path that leaves *root* or its
            mount, EAGAIN when directories on the way do not stop being renamed; else as open(2).
    """
    if "\0" in path:
        raise OSError(errno.EINVAL, "the path has a NUL byte", path)
    for _ in range(MAX_RACES):
        try:
            return _openat2(root, path, resolve)
        except OSError as error:
            # EPERM is what older seccomp profiles answer to system calls they do not know.
            if error.errno in (errno.ENOSYS, errno.EPERM):
                return _walk(root, path, resolve)
            if error.errno != errno.EAGAIN:
                raise
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def mount_of(fd: int) -> int:
    """Number of the mount that *fd* is on; its file system is not asked (proc_pid_fdinfo(5))."""
    for line in _own(f"fdinfo/{fd}").splitlines():
        if line.startswith("mnt_id:"):
            return int(line.split()[1])
    raise OSError(errno.ENOSYS, "the kernel does not tell the mount of a descriptor")


def file_system_of(fd: int) -> str:
    """Type of *fd*'s file system; "" when it is not mounted in our mount namespace."""
    mount = str(mount_of(fd))
    for line in _own("mountinfo").splitlines():
        if line.split(" ", 1)[0] == mount:
            return line.partition(" - ")[2].split(" ", 1)[0]
    return ""


def _own(name: str) -> str:
    fd = os.open(f"/proc/self/{name}", os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(fd, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _openat2(root: int, path: str, resolve: Resolve) -> int:
    import ctypes

    how = _HOW.pack(os.O_PATH | os.O_CLOEXEC, 0, resolve)
    fd: int = libc().syscall(
        ctypes.c_long(SYS_OPENAT2),
        ctypes.c_int(root),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.c_char_p(how),
        ctypes.c_size_t(_HOW.size),
    )
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return fd


def _walk(root: int, path: str, resolve: Resolve) -> int:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    mount = mount_of(root) if resolve & Resolve.NO_XDEV else -1
    # Directories from *root* down to the place reached; ".." goes back to the one before.
    stack = [os.dup(root)]
    try:
        todo = _components(path, resolve)
        links = 0
        while todo:
            name = todo.pop(0)
            if name == "..":
                if not stat.S_ISDIR(os.fstat(stack[-1]).st_mode):
                    raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                if len(stack) > 1:
                    os.close(stack.pop())
                elif not resolve & Resolve.IN_ROOT:
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
                continue
            stack.append(os.open(name, flags, dir_fd=stack[-1]))
            if mount >= 0 and mount_of(stack[-1]) != mount:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
            if not stat.S_ISLNK(os.fstat(stack[-1]).st_mode):
                continue
            links += 1
            if resolve & Resolve.NO_SYMLINKS or links > MAX_SYMLINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            link = stack.pop()
            try:
                # The empty name is the link itself (readlinkat(2)). Of a magic link, such as
                # /proc/PID/fd/N, only the text counts: that cannot leave the root.
                target = os.readlink("", dir_fd=link)
            finally:
                os.close(link)
            if target.startswith("/") and resolve & Resolve.IN_ROOT:
                while len(stack) > 1:
                    os.close(stack.pop())
            todo[:0] = _components(target, resolve)
        return stack.pop()
    finally:
        for fd in stack:
            os.close(fd)


def _components(path: str, resolve: Resolve) -> list[str]:
    if not path:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if path.startswith("/") and not resolve & Resolve.IN_ROOT:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    # A slash at the end wants a directory, as "." does.
    return [name for name in path.split("/") if name not in ("", ".")]
