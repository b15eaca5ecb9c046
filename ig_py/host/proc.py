"""The host as seen through its /proc: namespaces, cgroups, and pinned processes.

What is told of a process that has ended is empty. Where the host cannot be read, so that a process
may be there, all raise :class:`~ig_py.host.files.HostReadError`.

``HOST_ROOT`` (default ``/``) is where the host's file system is mounted when
ig-py itself runs in a container (docs/in-a-container.md).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from functools import cached_property
from pathlib import Path

from ig_py.errors import ContainerError
from ig_py.host.cgroup_paths import CgroupPaths
from ig_py.host.credentials import namespace_owner
from ig_py.host.files import (
    ABSENT,
    HostReadError,
    ReadFailures,
    held,
    inode,
    is_there,
    read_text,
    require_absent,
)
from ig_py.records import dataclass

MAX_PID = 1 << 22
"""PID_MAX_LIMIT of 64-bit kernels."""
_START = 19
"""Of the fields of /proc/PID/stat behind the name: the time when the process began (proc(5))."""
_TICKS = os.sysconf("SC_CLK_TCK")
MAX_SYMLINKS = 40
"""As many as the kernel follows in one path (ELOOP)."""


class ProcessGone(ContainerError):
    """The process ended, or its pid now belongs to another process."""


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Paths of ``/proc/PID/cgroup``; ``v1`` is that of the name=systemd hierarchy."""

    v1: str = ""
    v2: str = ""
    raw: str = ""


@dataclass
class Pins:
    """Open descriptors that keep namespace inode numbers from being reused."""

    mnt_fd: int = -1
    net_fd: int = -1

    def close(self) -> None:
        for fd in (self.mnt_fd, self.net_fd):
            if fd >= 0:
                os.close(fd)
        self.mnt_fd = self.net_fd = -1


@dataclass
class Process:
    """A process held so that its pid cannot mean another process.

    ``pidfd`` is -1 where /proc is of another pid namespace than this process.
    ``mntns``/``netns`` are 0 where they may not be read. ``born``: see :meth:`HostView.born`.
    """

    pid: int
    pidfd: int
    pins: Pins
    mntns: int
    netns: int
    started_at: int
    cgroups: Cgroups
    owner: int | None = None
    net_owner: int | None = None
    born: int = 0

    def close(self) -> None:
        self.pins.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class HostView:
    """The host below ``root``; every method tolerates that a process ends meanwhile.

    ``failures``: reads that failed, by which containers may have been missed.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = root or "/"
        self.proc = str(Path(self.root) / "proc")
        self.failures = ReadFailures()
        self._cgroup_paths = CgroupPaths(str(Path(self.root) / "sys/fs/cgroup"))

    @classmethod
    def from_env(cls) -> HostView:
        return cls(os.environ.get("HOST_ROOT", "/"))

    def require(self) -> None:
        """Make sure that the host can be seen.

        Raises:
            ContainerError: there is no /proc of the host below HOST_ROOT.
        """
        if is_there(f"{self.proc}/self/status"):
            return
        if self.root == "/":
            raise ContainerError(
                "looking for containers: there is no /proc",
                remedy="mount proc at /proc, or set HOST_ROOT to where the host's root is",
            )
        raise ContainerError(
            f"HOST_ROOT={self.root}: there is no {self.proc} of the host",
            remedy=f"start the container with --volume /:{self.root}:ro, or correct HOST_ROOT",
        )

    @cached_property
    def same_pidns(self) -> bool:
        """True when pids of the host's /proc are valid in system calls of this process."""
        # NSpid has one pid for each level, from the pid namespace of that /proc down to our own
        # (proc(5)).
        for line in read_text(f"{self.proc}/self/status").splitlines():
            if line.startswith("NSpid:"):
                return len(line.split()) == 2
        return False

    @cached_property
    def own_pid(self) -> int:
        """Pid of this process in the host's /proc; 0 where it has none."""
        try:
            return int(str(Path(f"{self.proc}/self").readlink()))
        except OSError as error:
            # EINVAL: it is no link, in a /proc that is none.
            if error.errno != errno.EINVAL:
                require_absent(f"{self.proc}/self", error, denied=True)
        except ValueError:
            pass
        return os.getpid() if self.same_pidns else 0

    @cached_property
    def host_netns(self) -> int | None:
        """Network namespace of pid 1; None where it may not be read."""
        return self.namespace(1, "net")

    @cached_property
    def host_network(self) -> int | None:
        """The host's network namespace. Where that of pid 1 may not be read, it is taken to be that
        of this process, if this process sees the host's files and processes; else None."""
        found = self.host_netns
        if found is None and self.root == "/" and self.same_pidns:
            found = self.namespace(os.getpid(), "net")
        return found

    @cached_property
    def host_mntns(self) -> int | None:
        """Mount namespace of pid 1; None where it may not be read."""
        return self.namespace(1, "mnt")

    @cached_property
    def pidns(self) -> int:
        """The pid namespace whose pids this /proc shows; 0 where that is not known."""
        found = self.namespace(1, "pid")
        if found is None and self.same_pidns:
            found = self.namespace(os.getpid(), "pid")
        return found or 0

    def path(self, path: str) -> str:
        """*path* below HOST_ROOT with every symlink resolved inside that root."""
        if self.root == "/":
            return path
        done: list[str] = []
        todo = [p for p in path.split("/") if p]
        links = 0
        while todo:
            part = todo.pop(0)
            if part == ".":
                continue
            if part == "..":
                del done[-1:]
                continue
            here = "/".join([self.root.rstrip("/"), *done, part])
            try:
                target = str(Path(here).readlink())
            except OSError as error:
                # EINVAL: it is no link.
                if error.errno != errno.EINVAL:
                    require_absent(here, error, denied=True)
                done.append(part)
                continue
            links += 1
            if links > MAX_SYMLINKS:
                raise ContainerError(f"resolving {path!a} below {self.root}: too many symlinks")
            if target.startswith("/"):
                done.clear()
            todo[:0] = [p for p in target.split("/") if p]
        return "/".join([self.root.rstrip("/"), *done])

    def namespace(self, pid: int, kind: str) -> int | None:
        """Inode of ``/proc/PID/ns/KIND``; None when it has ended or may not be read."""
        return inode(f"{self.proc}/{pid}/ns/{kind}")

    def owner(self, fd: int) -> int | None:
        """The user who made the namespace that *fd* is open on, in a user namespace of their own;
        None for the host's root, and where that is not known."""
        try:
            return namespace_owner(fd) if fd >= 0 else None
        except OSError as error:
            # What the kernel does not tell: before 4.11, or of user namespaces around our own.
            if error.errno not in (errno.ENOTTY, errno.EINVAL, errno.EPERM):
                raise HostReadError("the owner of a namespace", error) from error
            return None

    def owner_of(self, pid: int) -> int | None:
        """:meth:`owner` of the mount namespace of *pid*."""
        path = f"{self.proc}/{pid}/ns/mnt"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            require_absent(path, error, denied=True)
            return None
        try:
            return self.owner(fd)
        finally:
            os.close(fd)

    def cgroup_maker(self, path: str) -> int:
        """User id of the maker of the control group *path*; of its parent where it is gone."""
        return self._cgroup_paths.maker(path)

    def pids(self) -> list[int]:
        """Every process of now."""
        try:
            return [int(name) for name in os.listdir(self.proc) if name.isdecimal()]  # noqa: PTH208
        except OSError as error:
            require_absent(self.proc, error)
            return []

    def last_pid(self) -> int:
        """The pid that was given last in the pid namespace of this process (proc_loadavg(5)); 0
        where that is not known.

        Raises:
            HostReadError: It cannot be read.
        """
        words = read_text(f"{self.proc}/loadavg").split()
        return int(words[4]) if len(words) == 5 and words[4].isdecimal() else 0

    def read(self, pid: int, name: str) -> str:
        """Text of ``/proc/PID/NAME``; "" when it has ended."""
        return read_text(f"{self.proc}/{pid}/{name}")

    def status(self, pid: int) -> dict[str, str]:
        """Keys of ``/proc/PID/status`` (``Name``, ``PPid``, ``NSpid``, …); {} when it has ended."""
        pairs = (line.partition(":") for line in self.read(pid, "status").splitlines())
        return {key: value.strip() for key, _, value in pairs}

    def started_at(self, pid: int) -> int:
        """mtime of /proc/PID in unix ns, which is what ig calls the start."""
        path = f"{self.proc}/{pid}"
        try:
            return Path(path).stat().st_mtime_ns
        except OSError as error:
            require_absent(path, error)
            return 0

    def born(self, pid: int) -> int:
        """When a process began, in clock ticks since boot; 0 when it has ended.

        Two processes of one number differ in it: what was read of the number between two readings
        of the same value is of one process.
        """
        return _born(self.read(pid, "stat"))

    def began_before(self, pid: int, seconds: float) -> bool:
        """Whether the process that has the number *pid* had it at a time (:func:`boot_seconds`)
        already; False when it has ended."""
        born = self.born(pid)
        # The kernel rounds down.
        return born > 0 and (born + 1) / _TICKS <= seconds

    def cgroups(self, pid: int) -> Cgroups:
        return self._cgroups_of(self.read(pid, "cgroup"))

    def _cgroups_of(self, text: str) -> Cgroups:
        v1 = v2 = ""
        lines = [self._cgroup_paths.absolute(line) for line in text.splitlines()]
        for line in lines:
            if line.startswith("0::"):
                v2 = line[3:]
            elif ":name=systemd:" in line:
                v1 = line.split(":", 2)[2]
        return Cgroups(v1 if v1 != "/" else "", v2 if v2 != "/" else "", "\n".join(lines))

    def cgroup2_mount(self) -> str:
        """Where the unified hierarchy is mounted; "" when nowhere usual."""
        return self._cgroup_paths.unified

    def open(self, pid: int, born: int = 0) -> Process:
        """Hold *pid*: its pidfd, its namespaces pinned and numbered.

        *born*: when the process that is meant began (:meth:`born`); 0 for any.

        Raises:
            ProcessGone: it has ended, or its number is another process's.
            HostReadError: there are no descriptors left, or /proc cannot be read.
        """
        if not 0 < pid <= MAX_PID:
            raise ProcessGone(f"process {pid} is not one of the host's")
        with held(f"{self.proc}/{pid}") as process:
            return self._open(process, pid, born)

    def _open(self, directory: str, pid: int, born: int) -> Process:
        pidfd = -1
        pins = Pins()
        try:
            if self.same_pidns:
                pidfd = os.pidfd_open(pid)
            started_at = self.started_at(pid)
            cgroups = self._cgroups_of(read_text(f"{directory}/cgroup"))
            pins.mnt_fd, mntns = self._pin(directory, "mnt")
            pins.net_fd, netns = self._pin(directory, "net")
            owners = self.owner(pins.mnt_fd), self.owner(pins.net_fd)
            # If the process is alive now, all that was read before is of this process.
            stat = read_text(f"{directory}/stat")
            if not started_at or not is_there(f"{directory}/status") or not alive(pidfd):
                raise ProcessGone(f"process {pid} ended while being read")
            if born and _born(stat) != born:
                raise ProcessGone(f"process {pid} ended: its number is another process's")
        except OSError as error:
            pins.close()
            _close(pidfd)
            # EINVAL: the number is a thread's, not a process's (pidfd_open(2)).
            if error.errno in ABSENT or error.errno == errno.EINVAL:
                raise ProcessGone(f"holding process {pid}: {error.strerror}") from error
            raise HostReadError(f"process {pid}", error) from error
        except BaseException:
            pins.close()
            _close(pidfd)
            raise
        return Process(
            pid, pidfd, pins, mntns, netns, started_at, cgroups, *owners, born=_born(stat)
        )

    def _pin(self, directory: str, kind: str) -> tuple[int, int]:
        try:
            fd = os.open(f"{directory}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            return -1, 0
        return fd, os.fstat(fd).st_ino


def boot_seconds() -> float:
    """Now, in seconds since boot: what /proc tells times of processes in (proc_pid_stat(5))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _born(stat: str) -> int:
    """Of the content of /proc/PID/stat."""
    # The process's name, in parentheses, may itself contain spaces and parentheses (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return int(fields[_START]) if len(fields) > _START else 0


def open_netns(view: HostView) -> list[int]:
    """The host's network namespace; where it may not be opened, that of this process."""
    for path in (f"{view.proc}/1/ns/net", "/proc/thread-self/ns/net"):
        try:
            return [os.open(path, os.O_RDONLY | os.O_CLOEXEC)]
        except OSError as error:
            require_absent(path, error, denied=True)
    return []


def alive(pidfd: int) -> bool:
    """False once the process of *pidfd* exited; True when there is no pidfd to ask."""
    if pidfd < 0:
        return True
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)


def _close(fd: int) -> None:
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.close(fd)
