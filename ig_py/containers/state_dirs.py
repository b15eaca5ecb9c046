"""The directories in which runc and crun keep their containers' state, watched.

A runtime makes a container's directory when it begins, and writes the pid of init there before
init executes anything. So every container of every engine that uses runc or crun is noticed here,
also those that no engine knows: started by hand, by podman without its service, or by an engine
that is not asked.

Root's are below /run, and users have their own below /run/user. A user's directories and files
count only when they are the user's, are looked at through descriptors that no link and no mount of
the user redirects, and have a queue of their own, which is read slowly: no user can make those of
others late.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from typing import Protocol

from ig_py.containers.model import valid_id
from ig_py.containers.runtime_state import STATE_FILES, State, is_same, read_state
from ig_py.containers.speakers import ROOT, Speaker, is_trusted, is_user_id, owners_for
from ig_py.host.files import DENIED, HostReadError
from ig_py.host.inotify import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_IGNORED,
    IN_ISDIR,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Inotify,
)
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor
from ig_py.host.safe_open import FileRefused, open_directory_beneath
from ig_py.records import dataclass, replace

log = logging.getLogger(__name__)

BASE = "/run"
USERS = "user"
"""Below :data:`BASE` each user has a directory there, called by the user's id."""
ROOTS = (
    ("runc", "runc"),
    ("crun", "crun"),
    ("containerd", "containerd/runc/*"),
    ("docker", "docker/runtime-runc/*"),
)
"""A runtime or engine, and where below :data:`BASE` the state of its containers is: ``*`` is any
name."""
ANY = "*"
USER_ROOTS = (("runc", "runc"), ("crun", "crun"))
"""As :data:`ROOTS`, below each user's directory."""
MAX_WATCHES = 16384
MAX_USER_WATCHES = 256
"""Of one user."""
RESCAN_SECONDS = 1.0
USER_READ_SIZE = 1024
"""Bytes of inotify events of users that are read at once, about 20 of them."""
USER_PAUSE_SECONDS = 0.1
"""Time between two readings of these."""


class StateListener(Protocol):
    """Called in the reactor's thread. *speaker*: whose state it is."""

    def creating(self, container_id: str, runtime: str, speaker: Speaker) -> None:
        """A runtime begins to create a container."""

    def created(self, container_id: str, runtime: str, state: State, speaker: Speaker) -> None:
        """A container has an init. It is told again when this raises HostReadError."""


@dataclass(frozen=True, slots=True)
class _Directory:
    """A watched directory *below* the directory *root*: ``rest`` leads from it to the containers'
    directories, ``container_id`` is of a container's own. *users*: it is that of all users."""

    root: str
    below: str
    runtime: str
    rest: tuple[str, ...] = ()
    container_id: str = ""
    speaker: Speaker = ROOT
    users: bool = False


class StateDirs:
    """Needs the host's pid numbers; inactive where /proc is of another pid namespace."""

    def __init__(self, view: HostView, reactor: Reactor, listener: StateListener) -> None:
        self._view = view
        self._reactor = reactor
        self._listener = listener
        self._queues: dict[bool, _Queue] = {}
        self._seen: dict[_Directory, int] = {}
        self._learnt: dict[str, None] = {}
        self._complained = False

    def status(self) -> tuple[bool, str]:
        """Whether it works; where it looks, or why not."""
        if not self._view.same_pidns:
            return False, "/proc is of another pid namespace"
        if not self._queues:
            return False, "no inotify"
        places = [f"{BASE}/{pattern}" for _, pattern in ROOTS]
        return True, ", ".join(
            places + [f"{BASE}/{USERS}/*/{pattern}" for _, pattern in USER_ROOTS] + [*self._learnt]
        )

    def start(self, scanned: Callable[[], None]) -> None:
        """Arm the watches, look at what is there, then call *scanned*. Never fails: it is
        one source of several."""
        if not self._view.same_pidns:
            self._reactor.soon(scanned)
            return
        try:
            for of_root in (True, False):
                self._queues[of_root] = _Queue(Inotify())
        except OSError as error:
            log.warning("containers without an engine are found late: %s", error)
        for of_root, queue in self._queues.items():
            self._reactor.watch(queue.inotify.fd, self._read if of_root else self._read_users)
        self._reactor.soon(self._scan)
        self._reactor.soon(scanned)

    def watch(self, root: str, runtime: str, begins: str, rest: tuple[str, ...]) -> None:
        """Watch one more directory, of root's; *begins*: the container that is being created there,
        *rest*: names that lead from it to the containers' directories, :data:`ANY` for any. In the
        reactor's thread."""
        directory = _Directory(root, ".", runtime, rest)
        queue = self._queues.get(True)
        if queue is not None and directory not in queue.watched:
            self._learnt["/".join((root, *rest))] = None
            self._enter(directory, fresh=False, begins=begins)

    def stop(self) -> None:
        """After the reactor stopped."""
        for queue in self._queues.values():
            queue.inotify.close()
        self._queues.clear()

    def _scan(self) -> None:
        base = self._view.path(BASE)
        for runtime, pattern in ROOTS:
            self._enter(_Directory(base, ".", runtime, tuple(pattern.split("/"))), fresh=False)
        self._scan_users()

    def _scan_users(self) -> None:
        base = self._view.path(BASE)
        self._enter(_Directory(base, ".", "", (USERS,), users=True), fresh=False)

    def _enter(self, directory: _Directory, *, fresh: bool, begins: str = "") -> None:
        """Watch *directory*, then look what is in it. *fresh*: it was made just now. *begins*: a
        container whose directory was."""
        if self._is_full(directory.speaker):
            return
        try:
            fd, directory = _open(directory)
        except HostReadError as error:
            self._unread(directory, error)
            return
        if fd < 0:
            return
        wanted = directory.rest[0] if directory.rest else ANY
        names: list[str] = []
        try:
            if self._watch(directory, fd):
                # Two roots may lead to the same directory.
                return
            # Watch before looking: what is made in between is then seen twice, not missed.
            if not directory.container_id and wanted == ANY:
                names = _names(fd, _most(directory.speaker))
        except OSError as error:
            # A descriptor is open: it was there.
            self._unread(directory, HostReadError(f"{directory.root}/{directory.below}", error))
        finally:
            os.close(fd)
        if directory.container_id:
            self._look(directory)
        elif wanted != ANY:
            self._child(directory, wanted, fresh=fresh)
        for name in names:
            self._child(directory, name, fresh=fresh or name == begins)

    def _child(self, directory: _Directory, name: str, *, fresh: bool) -> None:
        if directory.users and not directory.rest:
            self._user(name)
            return
        below = f"{directory.below}/{name}".removeprefix("./")
        if directory.rest:
            if directory.rest[0] in (ANY, name):
                inner = replace(directory, below=below, rest=directory.rest[1:])
                self._enter(inner, fresh=fresh)
            return
        if valid_id(name):
            own = replace(directory, below=below, container_id=name)
            queue = self._queues.get(directory.speaker.is_root)
            # inotify tells again of what was made between the watch and the look.
            if fresh and not (queue is not None and own in queue.watched):
                self._listener.creating(name, directory.runtime, directory.speaker)
            self._enter(own, fresh=fresh)

    def _user(self, name: str) -> None:
        """A user's own directory."""
        if not is_user_id(name):
            return
        speaker = ROOT if is_trusted(int(name)) else Speaker(int(name))
        root = f"{self._view.path(BASE)}/{USERS}/{name}"
        for runtime, pattern in USER_ROOTS:
            rest = tuple(pattern.split("/"))
            self._enter(_Directory(root, ".", runtime, rest, speaker=speaker), fresh=False)

    def _watch(self, directory: _Directory, fd: int) -> bool:
        """Whether it is watched already, for another root."""
        queue = self._queues.get(directory.speaker.is_root)
        if queue is None:
            return False
        mask = IN_ONLYDIR | (IN_CLOSE_WRITE | IN_MOVED_TO if directory.container_id else IN_CREATE)
        try:
            watch = queue.inotify.add(f"/proc/self/fd/{fd}", mask)
        except OSError as error:
            self._complain(directory.speaker, f"{directory.root}: {error.strerror}")
            return False
        return not queue.add(watch, directory)

    def _is_full(self, speaker: Speaker) -> bool:
        queue = self._queues.get(speaker.is_root)
        full = queue is not None and queue.of(speaker) >= _most(speaker)
        if full:
            self._complain(speaker, f"over {_most(speaker)} directories")
        return full

    def _complain(self, speaker: Speaker, why: str) -> None:
        if not self._complained:
            self._complained = True
            log.warning("new containers of %s without an engine are found late: %s", speaker, why)

    def _read_users(self) -> None:
        queue = self._queues.get(False)
        if queue is None:
            return
        self._read_queue(queue, USER_READ_SIZE)
        fd = queue.inotify.fd
        self._reactor.unwatch(fd)
        self._reactor.later(USER_PAUSE_SECONDS, lambda: self._watch_users(fd))

    def _watch_users(self, fd: int) -> None:
        if self._queues:
            self._reactor.watch(fd, self._read_users)

    def _read(self) -> None:
        if queue := self._queues.get(True):
            self._read_queue(queue)

    def _read_queue(self, queue: _Queue, *size: int) -> None:
        for event in queue.inotify.read(*size):
            if event.mask & IN_Q_OVERFLOW:
                self._rescan(queue)
                continue
            if event.mask & IN_IGNORED:
                for directory in queue.remove(event.watch):
                    self._seen.pop(directory, None)
                continue
            for directory in list(queue.directories.get(event.watch, ())):
                if directory.container_id:
                    if event.name in STATE_FILES:
                        self._look(directory)
                elif event.mask & IN_ISDIR:
                    self._child(directory, event.name, fresh=True)

    def _unread(self, directory: _Directory, error: HostReadError) -> None:
        """What is in a directory is not known: count it, and look again where that may help."""
        self._view.failures.add(error)
        queue = self._queues.get(directory.speaker.is_root)
        if queue is not None and error.number not in DENIED:
            self._rescan(queue)

    def _rescan(self, queue: _Queue) -> None:
        def scan() -> None:
            queue.rescanning = False
            (self._scan if queue is self._queues.get(True) else self._scan_users)()

        if not queue.rescanning:
            queue.rescanning = True
            self._reactor.later(RESCAN_SECONDS, scan)

    def _look(self, directory: _Directory) -> None:
        try:
            self._report(directory)
        except HostReadError as error:
            self._unread(directory, error)

    def _report(self, directory: _Directory) -> None:
        owners = owners_for(directory.speaker.user)
        state = read_state(directory.root, directory.below, owners)
        # runc writes its state several times; the process is the news.
        if state is None or self._seen.get(directory) == state.pid:
            return
        if is_same(self._view, state):
            self._listener.created(
                directory.container_id, directory.runtime, state, directory.speaker
            )
            self._seen[directory] = state.pid


def _open(directory: _Directory) -> tuple[int, _Directory]:
    """A descriptor of a directory, -1 when it is none or not of its speaker; and the directory as
    it is to be named from now on.

    Raises:
        HostReadError: There may be one, and it cannot be opened.
    """
    owners = owners_for(directory.speaker.user)
    try:
        fd = open_directory_beneath(directory.root, directory.below, owners=owners)
    except FileRefused as error:
        error.require_known(trusted=directory.speaker.is_root)
        log.debug("%s", error)
        # What root has mounted or linked there is root's.
        if error.refusal != "path" or not directory.speaker.is_root or directory.below == ".":
            return -1, directory
        return _open(replace(directory, root=f"{directory.root}/{directory.below}", below="."))
    return (-1 if fd is None else fd), directory


def _tells(directory: _Directory) -> tuple[object, ...]:
    """What is reported of a directory, whatever the root that led there."""
    return directory.rest, directory.container_id, directory.speaker, directory.users


def _most(speaker: Speaker) -> int:
    return MAX_WATCHES if speaker.is_root else MAX_USER_WATCHES


def _names(fd: int, most: int) -> list[str]:
    with os.scandir(fd) as entries:
        return [entry.name for entry in itertools.islice(entries, most)]


class _Queue:
    """The watched directories of one inotify instance, by watch."""

    def __init__(self, inotify: Inotify) -> None:
        self.inotify = inotify
        self.directories: dict[int, list[_Directory]] = {}
        self.watched: set[_Directory] = set()
        self.rescanning = False
        self._counts: dict[Speaker, int] = {}

    def of(self, speaker: Speaker) -> int:
        """How many are watched of *speaker*."""
        return self._counts.get(speaker, 0)

    def add(self, watch: int, directory: _Directory) -> bool:
        """False when what is told of it is told for another root already."""
        # One directory may lead to several roots.
        directories = self.directories.setdefault(watch, [])
        if directory in directories:
            return True
        if any(_tells(known) == _tells(directory) for known in directories):
            return False
        directories.append(directory)
        self.watched.add(directory)
        self._counts[directory.speaker] = self.of(directory.speaker) + 1
        return True

    def remove(self, watch: int) -> list[_Directory]:
        gone = self.directories.pop(watch, [])
        self.watched.difference_update(gone)
        for directory in gone:
            self._counts[directory.speaker] -= 1
        return gone
