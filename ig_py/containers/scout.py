"""The kernel's scout, loaded once a process and shared by every gadget that runs in it.

It tells of each new mount namespace (docs/discovery.md). Here it is loaded and unloaded, and its
notices are passed on; :mod:`ig_py.containers.admission` decides by them.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_py.errors import IgPyError
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor

if TYPE_CHECKING:
    from ig_py._core import Map, ScoutNotice, Stream
    from ig_py._core import Scout as CoreScout

log = logging.getLogger(__name__)

MAX_PENDING = 512
"""Namespaces that pass filter maps before they are identified; more of them at once pass only when
they are identified."""
MAX_PENDING_OF_USERS = 128
"""As :data:`MAX_PENDING`, for the namespaces that users create in user namespaces of their own."""
FIRST_PIDNS = 0xEFFFFFFC
"""Inode number of the first pid namespace (kernel: PROC_PID_INIT_INO)."""


class Kind(enum.IntEnum):
    """What a notice tells of a mount namespace (core/scout/scout.bpf.c)."""

    NEW = 1
    FORK = 2
    EXEC = 3
    EXIT = 4
    MOVED = 5


SHUT = 1
"""Flag of a new namespace whose events do not pass yet."""
PLACED = 2
"""Flag of a new namespace whose first process is in another control group than its parent."""

Listener = Callable[["ScoutNotice"], None]


class Scout:
    """One user's part of the shared scout; :meth:`release` it once.

    Listeners are called in the reactor's thread, which all users share.
    """

    def __init__(self, shared: _Shared, listener: Listener) -> None:
        self._shared = shared
        self._listener = listener
        self._slots: list[int] = []

    @property
    def reactor(self) -> Reactor:
        return self._shared.reactor

    def read(self) -> None:
        """Pass on the notices that have come. In the reactor's thread only."""
        self._shared.read()

    def begin(self) -> None:
        """Start to call the listener."""
        self._shared.add(self._listener)

    def open(self, filter_map: Map) -> None:
        """New namespaces pass *filter_map* from now on."""
        self._slots.append(self._shared.core.add_filter(filter_map))

    def serve(self, stream: Stream, *, selective: bool) -> None:
        """Events of pending namespaces wait in *stream*. *selective*: only selected containers are
        wanted."""
        stream.admit_by(self._shared.core, selective)

    def settle(self, mntns: int, generation: int) -> None:
        """This user has decided about the namespace."""
        self._shared.settle(self._listener, mntns, generation)

    def withdraw(self, filter_map: Map, mntns: int, generation: int) -> None:
        """Delete a namespace from *filter_map*, unless a later one has its inode number."""
        self._shared.core.withdraw(filter_map, mntns, generation)

    def is_superseded(self, mntns: int, generation: int) -> bool:
        """Whether a later namespace has the inode number by now, also where its notice has not been
        read. What is known of a container by that number alone may be about the later one."""
        return self._shared.core.is_superseded(mntns, generation)

    def counts(self) -> dict[str, int]:
        """As ``_core.Scout.counts``, of all users."""
        return self._shared.core.counts()

    def release(self) -> None:
        """Listen no longer; the last user's release unloads the scout."""
        for slot in self._slots:
            self._shared.core.remove_filter(slot)
        self._slots.clear()
        self._shared.release(self._listener)


class _Shared:
    def __init__(self, core: CoreScout) -> None:
        self.core = core
        self.reactor = Reactor("ig-scout")
        self.users = 0
        self._listeners: list[Listener] = []
        self._undecided: dict[tuple[int, int], set[Any]] = {}
        self._lock = threading.Lock()
        self.reactor.watch(core.fileno(), self.read)
        self.reactor.start()

    def add(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.append(listener)

    def read(self) -> None:
        for notice in self.core.notices():
            with self._lock:
                listeners = list(self._listeners)
                if notice.kind == Kind.NEW and listeners:
                    self._undecided[notice.mntns, notice.generation] = set(listeners)
            if notice.kind == Kind.NEW and not listeners:
                self.core.settle(notice.mntns, notice.generation)
            for listener in listeners:
                try:
                    listener(notice)
                except Exception as error:
                    log.warning("a new mount namespace: %s: %s", type(error).__name__, error)

    def settle(self, listener: Listener, mntns: int, generation: int) -> None:
        """Tell the kernel once every listener has decided about the namespace."""
        with self._lock:
            left = self._undecided.get((mntns, generation))
            if left is None:
                return
            left.discard(listener)
            if left:
                return
            del self._undecided[mntns, generation]
        self.core.settle(mntns, generation)

    def release(self, listener: Listener) -> None:
        with self._lock:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)
            waiting = [key for key, left in self._undecided.items() if listener in left]
        for mntns, generation in waiting:
            self.settle(listener, mntns, generation)
        _release(self)

    def close(self) -> None:
        self.reactor.stop()
        # Detaching waits for an RCU grace period; no caller has to.
        threading.Thread(target=self.core.close, name="ig-scout-close").start()


class _Early:
    """A scout that is loaded before anyone asks for it."""

    def __init__(self, view: HostView) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._core: CoreScout | None = None
        self._dropped = False
        # No daemon: one that comes back from the core while Python ends would abort the process.
        self._thread = threading.Thread(target=self._run, name="ig-scout-load")
        self._thread.start()

    def _run(self) -> None:
        # acquire() tries again, and raises the error.
        with contextlib.suppress(Exception):
            core = _make(self._view)
            with self._lock:
                if not self._dropped:
                    self._core = core
                    return
            core.close()

    def take(self) -> CoreScout | None:
        """The scout, which the caller owns; None when it could not be loaded."""
        self._thread.join()
        return self._core

    def drop(self) -> None:
        """Unload it, now or when it is loaded."""
        with self._lock:
            self._dropped = True
            core, self._core = self._core, None
        if core is not None:
            core.close()


_lock = threading.Lock()
_current: _Shared | None = None
_early: _Early | None = None


def load_early(view: HostView) -> None:
    """Begin to load the scout: the kernel checks its programs while the caller goes on to what it
    needs the scout for. The first :func:`acquire` takes it; :func:`drop_early` when there is
    none."""
    global _early
    with _lock:
        if _early is None and _current is None:
            _early = _Early(view)


def drop_early() -> None:
    """Unload what :func:`load_early` loaded, unless it is in use."""
    global _early
    with _lock:
        early, _early = _early, None
    if early is not None:
        early.drop()


def acquire(view: HostView, listener: Listener) -> Scout:
    """The shared scout, loaded and attached when this is its first user.

    Raises:
        CoreError: The kernel lacks what it needs (BTF, ring buffers, tracepoints, rights).
        KernelError: Tracepoints cannot be found.
    """
    global _current
    with _lock:
        if _current is None:
            _current = _Shared(_load(view))
        _current.users += 1
        return Scout(_current, listener)


def scout_refusal(view: HostView) -> str | None:
    """Why the scout cannot be loaded and attached here; None when it can."""
    try:
        from ig_py._core import CoreError
    except ImportError as error:
        return str(error)
    try:
        acquire(view, lambda _notice: None).release()
    except (CoreError, IgPyError, OSError) as error:
        return str(error)
    return None


def _release(shared: _Shared) -> None:
    global _current
    with _lock:
        shared.users -= 1
        if shared.users:
            return
        if _current is shared:
            _current = None
    shared.close()


def _make(view: HostView) -> CoreScout:
    from ig_py._core import Scout as CoreScout

    return CoreScout(_pidns(view), (MAX_PENDING, MAX_PENDING_OF_USERS))


def _load(view: HostView) -> CoreScout:
    """With the lock held."""
    from ig_py.host.tracefs import with_tracefs

    global _early
    early, _early = _early, None
    core = (early.take() if early else None) or _make(view)
    try:
        # Before a program is attached: a namespace that is made after this look is new.
        before = _mount_namespaces(view)
        core.baseline(before)
        core.attach()
        # Nothing told the end of a namespace that ended before. Its number may be given to a new
        # one, which would be taken for the old one and never be seen.
        core.baseline_ended(sorted(set(before) - set(_mount_namespaces(view))))
        with_tracefs(core.attach_by_tracefs)
    except BaseException:
        core.close()
        raise
    return core


def _pidns(view: HostView) -> int:
    """The pid namespace of the host's /proc, 0 for the first one."""
    if not view.same_pidns:
        return 0
    number = Path("/proc/self/ns/pid").stat().st_ino
    return 0 if number == FIRST_PIDNS else number


def _mount_namespaces(view: HostView) -> list[int]:
    found = set()
    for entry in Path(view.proc).iterdir():
        if entry.name.isdecimal() and (mntns := view.namespace(int(entry.name), "mnt")):
            found.add(mntns)
    return sorted(found)
