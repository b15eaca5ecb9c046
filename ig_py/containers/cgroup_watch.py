"""The cgroup file system, watched for new containers: their init before its first instruction.

An engine says ``start`` only after the entrypoint was executed. But a runtime first makes the
container's cgroup, named by the container's id, and puts the init process there; init then waits,
already in its new namespaces, until the runtime has finished setting up (tens of milliseconds with
runc). inotify on the cgroup file system tells of the new directory at once; a short, bounded poll
of ``cgroup.procs`` finds init in it. No process is held up, and nothing is polled while no
container starts. Where a cgroup parent is unusual, or the tree is not visible, the engine's
``start`` event remains.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ig_py.containers.inits import init_of_cgroup
from ig_py.containers.speakers import NOBODY, Speaker, speaker_of_user
from ig_py.host.files import HostReadError, is_there, require_absent
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
"""Each of these hierarchies has every container; the first one that is mounted is watched."""
CONTAINER_DIR = re.compile(r"(?:[a-z]+-)?([0-9a-f]{64})(?:\.scope)?")

POLL_FAST = 0.001
POLL_SLOW = 0.02
FAST_SECONDS = 0.1
SCAN_AGAIN_SECONDS = 1.0
"""After a directory could not be read."""
GIVE_UP_SECONDS = 3.0
"""After this the engine's own start event has come, or none will."""


class CgroupWatch:
    """Calls *found(container_id, pid, speaker, born)* in the reactor's thread; *speaker*: to whom
    the control group belongs; *born*: of the process (``HostView.born``).

    Needs the host's pid numbers; inactive where /proc is of another pid namespace.
    """

    def __init__(
        self, view: HostView, reactor: Reactor, found: Callable[[str, int, Speaker, int], None]
    ) -> None:
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
        """Directories that may be the cgroup of *container_id*."""
        for root in self._roots:
            yield f"{root}/docker/{container_id}"
            yield f"{root}/system.slice/docker-{container_id}.scope"

    def init_pid(self, container_id: str) -> int | None:
        """Pid of a running container's init, where its cgroup leaves no doubt.

        Raises:
            HostReadError: The control group or its processes cannot be read.
        """
        if not self._view.same_pidns:
            return None
        for directory in self.directories(container_id):
            if (pid := init_of_cgroup(self._view, directory)) is not None:
                return pid
        return None

    def _read(self) -> None:
        assert self._inotify is not None
        for event in self._inotify.read():
            if event.mask & IN_Q_OVERFLOW:
                self._scan_all()
                continue
            path, is_parent = self._watches.get(event.watch, ("", False))
            if event.mask & IN_IGNORED:
                self._watches.pop(event.watch, None)
            elif path and event.mask & IN_CREATE and event.mask & IN_ISDIR:
                self._created(path, event.name, is_parent)

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
        except OSError as error:
            try:
                require_absent(path, error)
            except HostReadError as failure:
                self._view.failures.add(failure)
                self._reactor.later(SCAN_AGAIN_SECONDS, lambda: self._scan_parent(path))
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
        failure: HostReadError | None = None
        try:
            pid, born = self._init(directory)
            speaker = _speaker(directory)
            gone = not is_there(directory)
        except HostReadError as error:
            failure, pid, born, speaker, gone = error, None, 0, NOBODY, False
        if pid is not None:
            del self._pending[container_id]
            self._found(container_id, pid, speaker, born)
            return
        age = time.monotonic() - self._pending[container_id]
        if age > GIVE_UP_SECONDS or gone:
            del self._pending[container_id]
            if failure is not None:
                self._view.failures.add(failure)
            return
        self._reactor.later(
            POLL_FAST if age < FAST_SECONDS else POLL_SLOW,
            lambda: self._poll(container_id, directory),
        )

    def _init(self, directory: str) -> tuple[int | None, int]:
        """Init of a control group, and when it began."""
        pid = init_of_cgroup(self._view, directory)
        if pid is None:
            return None, 0
        born = self._view.born(pid)
        # What the second look sees is of the process that began then, or of no later one.
        return (pid, born) if init_of_cgroup(self._view, directory) == pid else (None, 0)


def _speaker(directory: str) -> Speaker:
    try:
        return speaker_of_user(Path(directory).lstat().st_uid)
    except OSError as error:
        require_absent(directory, error)
        return NOBODY


def _age(directory: str) -> float:
    """Seconds since a control group was made: one that an engine left behind is old already, and
    is not polled."""
    try:
        return max(0.0, time.time() - Path(directory).stat().st_mtime)
    except OSError:
        return 0.0


def _roots(view: HostView) -> list[str]:
    base = view.path("/sys/fs/cgroup")
    if is_there(f"{base}/cgroup.controllers"):
        return [base]
    hierarchies = (f"{base}/{name}" for name in V1_HIERARCHIES)
    return [path for path in hierarchies if is_there(f"{path}/cgroup.procs")][:1]
