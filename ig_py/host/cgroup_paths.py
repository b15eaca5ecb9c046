"""Control group paths of the host, also from within a control group namespace of our own.

In such a namespace /proc/PID/cgroup tells paths relative to the namespace's root: this process is
at ``/``, and a cgroup outside of the namespace begins with ``/..`` (cgroup_namespaces(7)). The root
is found by looking for this process in the host's hierarchy, which needs no rights over others.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from functools import cached_property

from ig_py.host.files import inode, is_there, read_text, require_absent

INITIAL = 0xEFFFFFFB
"""Inode number of the first control group namespace (kernel: PROC_CGROUP_INIT_INO)."""
_USER_SLICE = re.compile(r"/user\.slice/user-(\d{1,10})\.slice/")
MAX_DIRECTORIES = 32768
"""Looked into for each hierarchy; about a tenth of a second for a thousand."""


class CgroupPaths:
    """*mounts* is where the host's hierarchies are (``HOST_ROOT/sys/fs/cgroup``), *own* the entry
    of this process in a /proc of its own pid namespace."""

    def __init__(self, mounts: str, own: str = "/proc/self") -> None:
        self._mounts = mounts
        self._own = own
        self._roots: dict[str, str] = {}

    @cached_property
    def same_namespace(self) -> bool:
        """True when paths are the host's as they are."""
        return inode(f"{self._own}/ns/cgroup") in (INITIAL, None)

    @cached_property
    def unified(self) -> str:
        """Where the unified hierarchy is mounted; "" when nowhere usual."""
        for mount in (self._mounts, f"{self._mounts}/unified"):
            if is_there(f"{mount}/cgroup.controllers"):
                return mount
        return ""

    def maker(self, path: str) -> int:
        """User id of the owner of the control group *path*, or where it is gone, of the innermost
        one around it: who could have made it. Of several hierarchies it is the least trusted one
        that knows most of the path.

        Raises:
            HostReadError: It cannot be known.
        """
        deepest: dict[int, set[int]] = {}
        for mount in self._hierarchies:
            for depth, place in _upwards(path):
                try:
                    facts = os.stat(f"{mount}{place}", follow_symlinks=False)  # noqa: PTH116
                except OSError as error:
                    require_absent(f"{mount}{place}", error, denied=True)
                    continue
                deepest.setdefault(depth, set()).add(facts.st_uid)
                break
        if deepest:
            return max(deepest[max(deepest)])
        # No hierarchy is to be seen: systemd leaves to users what is below their slices.
        match = _USER_SLICE.match(path)
        return int(match[1]) if match else 0

    @cached_property
    def _hierarchies(self) -> list[str]:
        if self.unified == self._mounts:
            return [self.unified]
        found = [self.unified] if self.unified else []
        try:
            with os.scandir(self._mounts) as entries:
                found += [e.path for e in entries if is_there(f"{e.path}/cgroup.procs")]
        except OSError as error:
            require_absent(self._mounts, error, denied=True)
        return list(dict.fromkeys(found))

    def absolute(self, line: str) -> str:
        """A line of /proc/PID/cgroup with its path as the host knows it."""
        if self.same_namespace:
            return line
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/"):
            return line
        if controllers not in self._roots:
            self._roots[controllers] = self._root(controllers)
        return f"{number}:{controllers}:{_join(self._roots[controllers], path)}"

    def _root(self, controllers: str) -> str:
        """The root of this cgroup namespace in one hierarchy; "" where it is the host's root, or is
        not found."""
        name = controllers.removeprefix("name=")
        mount = f"{self._mounts}/{name}" if name else self.unified
        below = self._below(controllers)
        if not mount or below is None:
            return ""
        found = _directory_of(mount, os.getpid())
        return found.removesuffix(below) if found.endswith(below) else ""

    def _below(self, controllers: str) -> str | None:
        """This process's cgroup in its namespace, "" for the root; None when that is not told."""
        for line in read_text(f"{self._own}/cgroup").splitlines():
            if line.split(":", 2)[1:2] == [controllers]:
                return line.split(":", 2)[2].rstrip("/")
        return None


def _upwards(path: str) -> Iterator[tuple[int, str]]:
    """*path* and all around it, the innermost first, each with its depth."""
    names = [name for name in path.split("/") if name]
    for depth in range(len(names), -1, -1):
        yield depth, "".join(f"/{name}" for name in names[:depth])


def _directory_of(mount: str, pid: int) -> str:
    """The path below *mount* of the control group that holds *pid*; "" for none, or the top."""
    pending = [""]
    for _ in range(MAX_DIRECTORIES):
        if not pending:
            break
        path = pending.pop()
        if str(pid) in read_text(f"{mount}{path}/cgroup.procs").split():
            return path
        try:
            with os.scandir(f"{mount}{path}") as entries:
                pending += [f"{path}/{e.name}" for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError as error:
            require_absent(f"{mount}{path}", error, denied=True)
    return ""


def _join(root: str, path: str) -> str:
    # normpath() keeps two leading slashes.
    return "/" + posixpath.normpath(f"{root}{path}").lstrip("/")
