"""Finding a container's init process before it runs the first instruction.

An engine says ``start`` only after the entrypoint was executed. But a runtime
first makes the container's cgroup, named by the container's id, and puts the
init process there; init then waits, already in its new namespaces, until the
runtime has finished setting up (tens of milliseconds with runc). inotify on
the cgroup file system tells of the new directory at once; a short, bounded
poll of ``cgroup.procs`` finds init in it. Nothing is held up and nothing is
polled while no container starts. Where a cgroup parent is unusual, or the
tree is not visible, the engine's ``start`` event remains.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ig_py.host.files import is_there, read_text
from ig_py.host.inotify import (
    IN_CREATE,
    IN_IGNORED,
    IN_ISDIR,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Inotify,
)
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor

log = logging.getLogger(__name__)

PARENTS = ("docker", "system.slice")
"""Where engines put containers: cgroupfs driver, systemd driver."""
V1_HIERARCHIES = ("devices", "pids", "memory", "cpu", "systemd", "freezer")
"""Any one of them tells all; the first that is mounted is used."""
CONTAINER_DIR = re.compile(r"(?:[a-z]+-)?([0-9a-f]{64})(?:\.scope)?")

POLL_FAST = 0.001
POLL_SLOW = 0.02
FAST_SECONDS = 0.1
GIVE_UP_SECONDS = 3.0
"""After this the engine's own start event has long come, or none will."""
MAX_PROCESSES = 1024
"""A cgroup with more processes is no starting container: ask the engine."""
STAGES = ("runc:[0:", "runc:[1:")
"""What runc is on the way to init; these enter the cgroup first and go away."""


class CgroupScout:
    """Calls *found(container_id, pid)* in the reactor's thread.

    Needs the host's pid numbers; inactive where /proc is of another pid namespace.
    """

    def __init__(self, view: HostView, reactor: Reactor, found: Callable[[str, int], None]) -> None:
        self._view = view
        self._reactor = reactor
        self._found = found
        self._inotify: Inotify | None = None
        self._watches: dict[int, tuple[str, bool]] = {}
        self._pending: dict[str, float] = {}
        self._roots = _roots(view)

    def status(self) -> tuple[bool, str]:
        """Whether it works; where it looks, or why not."""
        if not self._view.same_pidns:
            return False, "/proc is of another pid namespace"
        if not self._roots:
            return False, "no control groups are mounted where they usually are"
        if self._inotify is None:
            return False, "no inotify"
        return True, ", ".join(f"{root}/{name}" for root in self._roots for name in PARENTS)

    def start(self) -> None:
        """Arm the watches, then look at what is there. Never fails: it is a second source."""
        if not self._view.same_pidns or not self._roots:
            return
        try:
            self._inotify = Inotify()
        except OSError as error:
            log.warning("containers are found at their start event only: %s", error)
            return
        self._reactor.watch(self._inotify.fd, self._read)
        self._reactor.soon(self._scan_all)

    def stop(self) -> None:
        """After the reactor stopped."""
        if self._inotify:
            self._inotify.close()
            self._inotify = None

    @property
    def waiting(self) -> int:
        """Control groups that are looked at until init is in them."""
        return len(self._pending)

    def directories(self, container_id: str) -> Iterator[str]:
        """Places where the cgroup of *container_id* may be."""
        for root in self._roots:
            yield f"{root}/docker/{container_id}"
            yield f"{root}/system.slice/docker-{container_id}.scope"

    def init_pid(self, container_id: str) -> int | None:
        """Init of a running container, when its cgroup leaves no doubt; no engine is asked."""
        if not self._view.same_pidns:
            return None
        for directory in self.directories(container_id):
            if (pid := init_pid(self._view, directory)) is not None:
                return pid
        return None

    def _read(self) -> None:
        assert self._inotify is not None
        for notice in self._inotify.read():
            if notice.mask & IN_Q_OVERFLOW:
                self._scan_all()
                continue
            path, is_parent = self._watches.get(notice.watch, ("", False))
            if notice.mask & IN_IGNORED:
                self._watches.pop(notice.watch, None)
            elif path and notice.mask & IN_CREATE and notice.mask & IN_ISDIR:
                self._created(path, notice.name, is_parent)

    def _created(self, path: str, name: str, is_parent: bool) -> None:
        if not is_parent:
            if name in PARENTS:
                self._scan_parent(f"{path}/{name}")
            return
        if match := CONTAINER_DIR.fullmatch(name):
            self._follow(match[1], f"{path}/{name}")

    def _scan_all(self) -> None:
        for root in self._roots:
            self._arm(root, is_parent=False)
            for name in PARENTS:
                self._scan_parent(f"{root}/{name}")

    def _scan_parent(self, path: str) -> None:
        # Watch before looking: what is made in between is then seen twice, not missed.
        if not self._arm(path, is_parent=True):
            return
        try:
            names = [entry.name for entry in Path(path).iterdir()]
        except OSError:
            return
        for name in names:
            self._created(path, name, is_parent=True)

    def _arm(self, path: str, *, is_parent: bool) -> bool:
        assert self._inotify is not None
        try:
            watch = self._inotify.add(path, IN_CREATE | IN_ONLYDIR)
        except FileNotFoundError:
            return False
        except OSError as error:
            log.warning("new containers below %s are found at their start event: %s", path, error)
            return False
        self._watches[watch] = (path, is_parent)
        return True

    def _follow(self, container_id: str, directory: str) -> None:
        if container_id not in self._pending:
            self._pending[container_id] = time.monotonic() - _age(directory)
            self._poll(container_id, directory)

    def _poll(self, container_id: str, directory: str) -> None:
        pid = init_pid(self._view, directory)
        if pid is not None:
            del self._pending[container_id]
            self._found(container_id, pid)
            return
        age = time.monotonic() - self._pending[container_id]
        if age > GIVE_UP_SECONDS or not Path(directory).is_dir():
            del self._pending[container_id]
            return
        self._reactor.later(
            POLL_FAST if age < FAST_SECONDS else POLL_SLOW,
            lambda: self._poll(container_id, directory),
        )


def _age(directory: str) -> float:
    """Seconds since a control group was made: nobody waits for the processes of one that an
    engine left behind."""
    try:
        return max(0.0, time.time() - Path(directory).stat().st_mtime)
    except OSError:
        return 0.0


def init_pid(view: HostView, directory: str) -> int | None:
    """The container's init among the processes of a cgroup; None when there is none yet,
    or more than one process could be it.

    Init is the process whose parent is outside of the cgroup and in another
    mount namespace, and which is pid 1 of its own pid namespace or, where
    that is shared, the only such process.
    """
    procs = read_text(f"{directory}/cgroup.procs").split()
    if len(procs) > MAX_PROCESSES:
        return None
    members = set(procs)
    candidates = []
    for pid in procs:
        status = view.status(int(pid))
        parent = status.get("PPid", "")
        if not parent or parent in members or status.get("Name", "").startswith(STAGES):
            continue
        mntns = view.namespace(int(pid), "mnt")
        outside = view.namespace(int(parent), "mnt") or view.namespace(os.getpid(), "mnt")
        if mntns is None or mntns == outside:
            continue
        levels = status.get("NSpid", "").split()
        if len(levels) > 1 and levels[-1] == "1":
            return int(pid)
        candidates.append(int(pid))
    return candidates[0] if len(candidates) == 1 else None


def _roots(view: HostView) -> list[str]:
    base = view.path("/sys/fs/cgroup")
    if is_there(f"{base}/cgroup.controllers"):
        return [base]
    hierarchies = (f"{base}/{name}" for name in V1_HIERARCHIES)
    return [path for path in hierarchies if is_there(f"{path}/cgroup.procs")][:1]
