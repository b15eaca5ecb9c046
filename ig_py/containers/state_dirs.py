"""The directories in which runc and crun keep their containers' state, watched.

A runtime makes a container's directory when it begins, and writes the pid of init there before
init executes anything. So every container of every engine that uses runc or crun is noticed here,
also those that no engine knows: started by hand, by podman without its service, or by an engine
that is not asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ig_py.containers.model import valid_id
from ig_py.containers.runtime_state import STATE_FILES, State, is_same, read_state
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
from ig_py.records import dataclass

log = logging.getLogger(__name__)

ROOTS = (
    ("runc", "run/runc"),
    ("crun", "run/crun"),
    ("runc", "run/user/*/runc"),
    ("crun", "run/user/*/crun"),
    ("containerd", "run/containerd/runc/*"),
    ("docker", "run/docker/runtime-runc/*"),
)
"""A runtime or engine, and where the state of its containers is: ``*`` is any name."""
MAX_WATCHES = 16384
RESCAN_SECONDS = 1.0


class StateListener(Protocol):
    """Called in the reactor's thread."""

    def creating(self, container_id: str, runtime: str) -> None:
        """A runtime begins to create a container."""

    def created(self, container_id: str, runtime: str, state: State) -> None:
        """A container has an init."""


@dataclass(frozen=True, slots=True)
class _Directory:
    """A watched directory: ``rest`` leads from it to the containers' directories,
    ``container_id`` is of a container's own."""

    path: str
    runtime: str
    rest: tuple[str, ...] = ()
    container_id: str = ""


class StateDirs:
    """Needs the host's pid numbers; inactive where /proc is of another pid namespace."""

    def __init__(self, view: HostView, reactor: Reactor, listener: StateListener) -> None:
        self._view = view
        self._reactor = reactor
        self._listener = listener
        self._inotify: Inotify | None = None
        self._watches: dict[int, list[_Directory]] = {}
        self._seen: dict[str, int] = {}
        self._complained = False

    def status(self) -> tuple[bool, str]:
        """Whether it works; where it looks, or why not."""
        if not self._view.same_pidns:
            return False, "/proc is of another pid namespace"
        if self._inotify is None:
            return False, "no inotify"
        return True, ", ".join(f"/{pattern}" for _, pattern in ROOTS)

    def start(self, scanned: Callable[[], None]) -> None:
        """Arm the watches, look at what is there, then call *scanned*. Never fails: it is
        one source of several."""
        if not self._view.same_pidns:
            self._reactor.soon(scanned)
            return
        try:
            self._inotify = Inotify()
        except OSError as error:
            log.warning("containers without an engine are found late: %s", error)
        else:
            self._reactor.watch(self._inotify.fd, self._read)
        self._reactor.soon(self._scan)
        self._reactor.soon(scanned)

    def stop(self) -> None:
        """After the reactor stopped."""
        if self._inotify:
            self._inotify.close()
            self._inotify = None

    def _scan(self) -> None:
        for runtime, pattern in ROOTS:
            base = self._view.path("/")
            self._enter(_Directory(base, runtime, tuple(pattern.split("/"))), fresh=False)

    def _enter(self, directory: _Directory, *, fresh: bool) -> None:
        """Watch *directory*, then look what is in it. *fresh*: it was made just now."""
        if not self._arm(directory):
            return
        if directory.container_id:
            self._look(directory)
            return
        wanted = directory.rest[0] if directory.rest else "*"
        if wanted != "*":
            self._child(directory, wanted, fresh=fresh)
            return
        try:
            names = [entry.name for entry in Path(directory.path).iterdir()]
        except OSError:
            return
        for name in names:
            self._child(directory, name, fresh=fresh)

    def _child(self, directory: _Directory, name: str, *, fresh: bool) -> None:
        path = f"{directory.path.rstrip('/')}/{name}"
        if directory.rest:
            if directory.rest[0] in ("*", name):
                self._enter(_Directory(path, directory.runtime, directory.rest[1:]), fresh=fresh)
            return
        if valid_id(name):
            if fresh:
                self._listener.creating(name, directory.runtime)
            self._enter(_Directory(path, directory.runtime, (), name), fresh=fresh)

    def _arm(self, directory: _Directory) -> bool:
        if self._inotify is None:
            return Path(directory.path).is_dir()
        if len(self._watches) >= MAX_WATCHES:
            self._complain(f"over {MAX_WATCHES} directories")
            return True
        mask = IN_ONLYDIR | (IN_CLOSE_WRITE | IN_MOVED_TO if directory.container_id else IN_CREATE)
        try:
            watch = self._inotify.add(directory.path, mask)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self._complain(f"{directory.path}: {error.strerror}")
            return True
        # One directory may lead to several roots.
        directories = self._watches.setdefault(watch, [])
        if directory not in directories:
            directories.append(directory)
        return True

    def _complain(self, why: str) -> None:
        if not self._complained:
            self._complained = True
            log.warning("new containers without an engine are found late: %s", why)

    def _read(self) -> None:
        assert self._inotify is not None
        for event in self._inotify.read():
            if event.mask & IN_Q_OVERFLOW:
                self._reactor.later(RESCAN_SECONDS, self._scan)
                continue
            if event.mask & IN_IGNORED:
                for directory in self._watches.pop(event.watch, ()):
                    self._seen.pop(directory.path, None)
                continue
            for directory in list(self._watches.get(event.watch, ())):
                if directory.container_id:
                    if event.name in STATE_FILES:
                        self._look(directory)
                elif event.mask & IN_ISDIR:
                    self._child(directory, event.name, fresh=True)

    def _look(self, directory: _Directory) -> None:
        state = read_state(directory.path)
        # runc writes its state several times: only a new pid is reported.
        if state is None or self._seen.get(directory.path) == state.pid:
            return
        if is_same(self._view, state):
            self._seen[directory.path] = state.pid
            self._listener.created(directory.container_id, directory.runtime, state)
