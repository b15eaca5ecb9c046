"""Opening files that other users, containers or authors of sources can name or make.

:func:`read_beneath` and :func:`open_beneath` open a file below a directory. What they promise:

- The path does not leave the directory: no ``..`` beyond it, no link out of it, no magic link of
  /proc (:class:`Links` says whether links inside count).
- Only regular files are opened for reading. Everything else is looked at through an ``O_PATH``
  descriptor, which a device, a FIFO or a socket does not notice.
- With *owners*, a file counts only if one of these users owns it, and it is not writable for all
  users. One that has a second name (hard link) counts only in a directory that these users alone
  can write: others can link it into a directory of their own (fs.protected_hardlinks=0), but not
  make it uncounted in the owner's by that. Otherwise the permissions of the directories on the way
  are not checked: a user who may write one of them can remove or rename the owner's files, but not
  make new ones of this owner.
- At most *most* bytes are read, whatever the file says of its size, even while it grows.
- A file under a lease of its owner is refused, not waited for (fcntl(2), F_SETLEASE).
- No user's file system is waited for without a bound. Users can mount FUSE, whose server answers
  when it likes. With *one_mount* no mount is crossed, and a *root* on FUSE is refused: no
  file system of a user is asked anything. Otherwise a thread does it, for at most *deadline_s*;
  the kernel ends that thread with the process. Owners whose files did not answer in
  :data:`MAX_STUCK` threads are not asked again until one of these ends. *deadline_s* None is for
  directories that the person who runs ig-py names: what is in them may be slow.

:func:`read_argument` and :func:`open_argument` are for a file that this person names.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from typing import Literal, TypeAlias, TypeVar

from ig_py.errors import IgPyError
from ig_py.host.descriptors import USED_UP
from ig_py.host.files import ABSENT, DENIED, HostReadError
from ig_py.host.libc import file_system_magic
from ig_py.host.openat2 import Resolve, file_system_of, open_path

DEADLINE_S = 1.0
MAX_STUCK = 2
"""Threads that wait for files of the same owners."""
MAX_STUCK_ALL = 16
"""Threads that wait for files of any owner; root's files are not counted."""
CHUNK = 256 * 1024

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_KERNEL_FILE_SYSTEMS = frozenset(
    {
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x74726163,  # tracefs
        0x64626720,  # debugfs
        0x63677270,  # cgroup2
        0x27E0EB,  # cgroup
        0x73636673,  # securityfs
        0xCAFE4A11,  # bpf
        0x62656570,  # configfs
        0xDE5E81E4,  # efivarfs
    }
)
"""``f_type`` (linux/magic.h) of file systems whose regular files do something when read, as
/proc/kmsg and trace_pipe, whose messages are then gone."""

Refusal: TypeAlias = Literal[
    "absent", "path", "kind", "owner", "size", "file system", "slow", "error"
]
"""Why a file is not read: an argument's file does not exist · the path leaves the root or has a
link · it is not a regular file · owner, mode or second name · larger than allowed · a file system
of the kernel or of a user · no answer in time, or a lease · another error, such as missing
rights."""

T = TypeVar("T")


class Links(Enum):
    """What symbolic links of a path count as."""

    REFUSED = Resolve.BENEATH | Resolve.NO_MAGICLINKS | Resolve.NO_SYMLINKS
    """No part of the path may be a link."""
    BENEATH = Resolve.BENEATH | Resolve.NO_MAGICLINKS
    """A link may lead to another place below the root; absolute links and those out are refused."""
    IN_ROOT = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS
    """The root is ``/``, as in a container: an absolute link starts there, ``..`` stops there."""


class FileRefused(IgPyError):
    """A file is not read, since it is not what it has to be.

    Attributes:
        path: The file.
        refusal: The kind of reason.
        reason: It as a clause for a longer message: ``it is a FIFO, not a regular file``.
        cause: The error of the kernel by which a file of refusal ``error`` is not read, so that it
            may be one that counts.
    """

    def __init__(
        self, path: str, refusal: Refusal, reason: str, cause: OSError | None = None
    ) -> None:
        super().__init__(f"reading {path}: {reason}")
        self.path = path
        self.refusal = refusal
        self.reason = reason
        self.cause = cause

    def require_known(self, *, trusted: bool, denied: bool = False) -> None:
        """Return when it is known that there is no file that counts.

        Args:
            trusted: The file would be root's. Another user can make every error but those of want
                of descriptors and memory, by a file system of their own.
            denied: Return as well where there are no rights to look.

        Raises:
            HostReadError: There may be one.
        """
        if self.cause is None or self.cause.errno in ABSENT:
            return
        if denied and self.cause.errno in DENIED:
            return
        if trusted or self.cause.errno in (*USED_UP, errno.ENOMEM):
            raise HostReadError(self.path, self.cause) from self


def read_beneath(
    root: int | str | os.PathLike[str],
    path: str,
    *,
    most: int,
    owners: Collection[int] | None = None,
    links: Links = Links.REFUSED,
    one_mount: bool = True,
    deadline_s: float | None = DEADLINE_S,
) -> bytes | None:
    """The content of the regular file *path* below *root*.

    Args:
        root: A descriptor of a directory, or its path, which no other user can change.
        path: Relative to *root*.
        most: Bytes of the largest file that is accepted.
        owners: Ids of the users that the file may belong to; None for any user.
        links: What symbolic links count as.
        one_mount: Refuse what is mounted below *root*.
        deadline_s: Seconds that a file system of a user may take; None for any time.

    Returns:
        None when there is no such file.

    Raises:
        FileRefused: There is one, and it is not read.
    """
    request = _Request(root, path, owners, links, one_mount)

    def work() -> bytes | None:
        fd = request.open(stat.S_ISREG)
        if fd is None:
            return None
        try:
            return _content(fd, most, request.name)
        finally:
            os.close(fd)

    return request.run(work, deadline_s, lambda _: None)


def open_beneath(
    root: int | str | os.PathLike[str],
    path: str,
    *,
    owners: Collection[int] | None = None,
    links: Links = Links.REFUSED,
    one_mount: bool = True,
    deadline_s: float | None = DEADLINE_S,
) -> int | None:
    """A descriptor for reading of the regular file *path*; as :func:`read_beneath`.

    Reading from it is bounded by nothing: for files whose file system is known not to be FUSE.

    Raises:
        FileRefused: There is one, and it is not opened.
    """
    request = _Request(root, path, owners, links, one_mount)
    return request.run(lambda: request.open(stat.S_ISREG), deadline_s, _close)


def open_directory_beneath(
    root: int | str | os.PathLike[str],
    path: str,
    *,
    owners: Collection[int] | None = None,
    links: Links = Links.REFUSED,
    one_mount: bool = True,
    deadline_s: float | None = DEADLINE_S,
) -> int | None:
    """A descriptor of the directory *path*, for ``os.listdir`` and as *root*; as
    :func:`read_beneath`.

    Raises:
        FileRefused: There is something of that name, and it is not opened.
    """
    request = _Request(root, path, owners, links, one_mount)
    return request.run(lambda: request.open(stat.S_ISDIR), deadline_s, _close)


def read_argument(path: str | os.PathLike[str], *, most: int, pipes: bool = True) -> bytes:
    """The content of a file that the person who runs ig-py names, by a flag, an argument or a
    variable of the environment, or that has a place in this person's home.

    It may be a link. As with cat(1), it may be a pipe, which is waited for, or a device
    (``<(command)``, /dev/stdin, /dev/null).

    Args:
        path: What was typed.
        most: Bytes of the largest file that is accepted.
        pipes: False for a path that was not typed: only a regular file counts.

    Raises:
        FileRefused: It cannot be read, is a directory, or is larger. ``reason`` of an error is
            the system's text, such as ``No such file or directory``.
    """
    name = os.fspath(path)
    if pipes:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        except (OSError, ValueError) as error:
            raise _refused(name, error) from error
    else:
        fd = open_argument(name)
    try:
        return _content(fd, most, name)
    finally:
        os.close(fd)


def open_argument(path: str | os.PathLike[str]) -> int:
    """A descriptor for reading of the regular file *path*; as :func:`read_argument`.

    Raises:
        FileRefused: It cannot be opened, or is not a regular file.
    """
    name = os.fspath(path)
    try:
        place = os.open(name, os.O_PATH | os.O_CLOEXEC)
        try:
            mode = os.fstat(place).st_mode
            if not stat.S_ISREG(mode):
                raise FileRefused(name, "kind", f"it is {_kind(mode)}, not a regular file")
            return os.open(f"/proc/self/fd/{place}", _READ)
        finally:
            os.close(place)
    except (OSError, ValueError) as error:
        raise _refused(name, error) from error


class _Request:
    """A file that is asked for, with the conditions on it."""

    def __init__(
        self,
        root: int | str | os.PathLike[str],
        path: str,
        owners: Collection[int] | None,
        links: Links,
        one_mount: bool,
    ) -> None:
        self.name = path if isinstance(root, int) else os.path.join(root, path)  # noqa: PTH118
        self._root = root
        self._path = path
        self._owners = owners
        self._resolve = links.value | (Resolve.NO_XDEV if one_mount else Resolve(0))

    def open(self, kind: Callable[[int], bool]) -> int | None:
        """The file's descriptor when it is of *kind* (``stat.S_ISREG``, ``stat.S_ISDIR``)."""
        try:
            with self._opened_root() as root:
                place = open_path(root, self._path, self._resolve)
            try:
                facts = os.fstat(place)
                self._check(facts, kind)
                if self._owners is not None and facts.st_nlink > 1 and kind is stat.S_ISREG:
                    self._check_second_name(facts)
                if not self._resolve & Resolve.NO_XDEV:
                    self._check_file_system(place)
                # The inode that was checked, even if another file has its name by now (proc(5)).
                fd = os.open(f"/proc/self/fd/{place}", _READ)
            finally:
                os.close(place)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise _refused(self.name, error) from error
        try:
            self._check(os.fstat(fd), kind)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def run(
        self, work: Callable[[], T | None], deadline_s: float | None, drop: Callable[[T], None]
    ) -> T | None:
        """Do *work*, here when no user's file system is asked or none is doubted, else in a
        thread.

        *drop* takes a result that comes too late.
        """
        if deadline_s is None:
            return work()
        if self._resolve & Resolve.NO_XDEV:
            try:
                with self._opened_root() as root:
                    kind = file_system_of(root)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise _refused(self.name, error) from error
            if kind.partition(".")[0] in ("fuse", "fuseblk"):
                raise FileRefused(self.name, "file system", "its file system is a user's (FUSE)")
            if kind:
                return work()
        from ig_py.host.bounded import TooMany, bounded

        owners = None if self._owners is None else frozenset(self._owners)
        most_all = None if owners == frozenset({0}) else MAX_STUCK_ALL
        try:
            return bounded(work, deadline_s, owners, MAX_STUCK, most_all, drop)
        except TimeoutError:
            reason = f"its file system did not answer in {deadline_s:g} s"
        except TooMany:
            reason = "earlier files of the same owners still do not answer"
        raise FileRefused(self.name, "slow", reason)

    @contextlib.contextmanager
    def _opened_root(self) -> Iterator[int]:
        if isinstance(self._root, int):
            yield self._root
            return
        # O_PATH: of a directory on FUSE nothing is asked yet.
        fd = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    def _check(self, facts: os.stat_result, kind: Callable[[int], bool]) -> None:
        wanted = "regular file" if kind is stat.S_ISREG else "directory"
        if not kind(facts.st_mode):
            raise FileRefused(self.name, "kind", f"it is {_kind(facts.st_mode)}, not a {wanted}")
        if self._owners is None:
            return
        if facts.st_uid not in self._owners:
            raise FileRefused(self.name, "owner", f"it belongs to user {facts.st_uid}")
        if facts.st_mode & stat.S_IWOTH and not facts.st_mode & stat.S_ISVTX:
            raise FileRefused(self.name, "owner", "all users may write it")

    def _check_second_name(self, facts: os.stat_result) -> None:
        """Check that only an owner can have given the file the name by which it was opened."""
        above, _, name = self._path.rstrip("/").rpartition("/")
        with self._opened_root() as root:
            directory = open_path(root, above or ".", self._resolve)
        try:
            about = os.fstat(directory)
            same = os.stat(name, dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)
        private = about.st_uid in (self._owners or ()) and not about.st_mode & _OTHERS_WRITE
        if not private or (same.st_dev, same.st_ino) != (facts.st_dev, facts.st_ino):
            raise FileRefused(self.name, "owner", "it has a second name (hard link)")

    def _check_file_system(self, fd: int) -> None:
        if file_system_magic(fd) in _KERNEL_FILE_SYSTEMS:
            raise FileRefused(self.name, "file system", "it is a file of the kernel")


def _content(fd: int, most: int, name: str) -> bytes:
    chunks = []
    left = most + 1
    try:
        while left and (chunk := os.read(fd, min(left, CHUNK))):
            chunks.append(chunk)
            left -= len(chunk)
    except OSError as error:
        raise _refused(name, error) from error
    if not left:
        raise FileRefused(name, "size", f"it is larger than {most} bytes")
    return b"".join(chunks)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFREG: "a regular file",
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFLNK: "a symbolic link",
    }
    return kinds.get(stat.S_IFMT(mode), "of an unknown kind")


def _refused(name: str, error: OSError | ValueError) -> FileRefused:
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOENT, errno.ENOTDIR):
        return FileRefused(name, "absent", os.strerror(code))
    if code == errno.ELOOP:
        return FileRefused(name, "path", "its path has a symbolic link, or too many")
    if code == errno.EXDEV:
        return FileRefused(name, "path", "its path leaves the directory, or its mount")
    if code == errno.EAGAIN:
        return FileRefused(name, "slow", "it is under a lease, or being moved")
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FileRefused(name, "error", text, error if isinstance(error, OSError) else None)


def _close(fd: int) -> None:
    os.close(fd)
