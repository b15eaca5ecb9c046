"""The map of sockets' owners, filled in the kernel by an object of ours (docs/sockets.md).

Loaded once a process for each layout of the map's values, and shared by the gadgets that have it.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ig_py.containers.proc import HostView
from ig_py.errors import IgPyError
from ig_py.gadget.sockets import KEY_SIZE, MAP, Layout
from ig_py.records import dataclass
from ig_py.runtime.private_mount import with_mount
from ig_py.runtime.tracefs import with_tracefs

if TYPE_CHECKING:
    from ig_py._core import Map, Object

log = logging.getLogger(__name__)

TICK_SECONDS = 2.0
"""How often owners of closed sockets are looked for, and missed ones of open sockets."""
SHARE_OF_TIME = 50
"""After a walk over all open files, this many times the processor's time that it took."""

_HASH = 1
_ROOT_INODE = 1
"""Of the root of a control group hierarchy (kernfs); others have larger ones."""
_OF_CGROUPS = (
    *("sockets_bound4", "sockets_bound6"),
    *("sockets_sent4", "sockets_sent6"),
    *("sockets_connect4", "sockets_connect6"),
    *("sockets_of_tcp", "sockets_released"),
)
_CONNECTED = "sockets_connected"
_CONNECTED_BY_RING = "sockets_ring_entered"
_HELD, _LOST = "sockets_held", "sockets_lost"
_PURGE, _WAITING = "sockets_purge", "sockets_waiting"
_COUNTS = struct.Struct("=QQQQQ")


@dataclass(frozen=True)
class Counts:
    """Since it was loaded: owners that found no room, owners that found no scratch memory,
    sockets that went whose port others have too, calls that nobody saw the end of; and sockets
    that the last walk met."""

    full: int = 0
    busy: int = 0
    orphans: int = 0
    unseen: int = 0
    found: int = 0

    @property
    def missed(self) -> int:
        """Sockets whose owner a walk may find."""
        return self.full + self.busy + self.orphans + self.unseen


class SocketOwners:
    """The map and what fills it; :meth:`tick` is called now and then, or :meth:`follow` does.

    :raises CoreError: the kernel lacks what it needs (BTF, iterators, rights, memory).
    """

    def __init__(self, layout: Layout, entries: int, view: HostView) -> None:
        from ig_py._core import Map, Object, sockets_object

        self.map: Map = Map.create(MAP, _HASH, KEY_SIZE, layout.value_size, entries)
        self._object: Object = Object(sockets_object(), "sockets")
        self._view = view
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._rested = 0.0
        self._repaired = Counts()
        self._told = False
        self.walks = False
        """Not all sockets are told of: they are looked for at intervals."""
        try:
            self._load(layout, entries)
            # Now nothing is missed; who was there before comes after, where nobody is.
            self._attach()
            self._walk()
        except BaseException:
            self.close()
            raise

    def _load(self, layout: Layout, entries: int) -> None:
        self._object.set_data(".rodata", 0, struct.pack("=II", layout.cwd, layout.exepath))
        self._object.set_max_entries(MAP, entries)
        self._object.set_map_type(MAP, _HASH, KEY_SIZE, layout.value_size)
        self._object.reuse_map(MAP, self.map)
        self._object.load()

    def _attach(self) -> None:
        from ig_py._core import CoreError

        try:
            if not self._attach_to_cgroups():
                self._warn("the root of the control groups is not to be seen from here")
            with_tracefs(self._attach_to_calls)
        except CoreError as error:
            self._warn(str(error.args[1]))
        except IgPyError as error:
            self._warn(str(error))

    def _warn(self, why: str) -> None:
        self.walks = True
        log.warning(
            "owners of sockets are looked for every %g seconds, those of short-lived ones stay "
            "unknown: %s",
            TICK_SECONDS,
            why,
        )

    def _attach_to_cgroups(self) -> bool:
        """False when there may be processes outside of what is seen of the hierarchy."""
        mount = self._view.cgroup2_mount()
        if mount and _is_root(mount):
            return self._attach_at(mount)
        place = Path(self._view.root) / "sys/fs/cgroup"
        return with_mount("cgroup2", place, lambda: self._attach_at(str(place)), "finding sockets")

    def _attach_at(self, mount: str) -> bool:
        if not _is_root(mount):
            return False
        for program in _OF_CGROUPS:
            self._object.attach_cgroup(program, mount)
        return True

    def _attach_to_calls(self) -> None:
        from ig_py._core import CoreError

        self._object.attach(_CONNECTED)
        try:
            self._object.attach(_CONNECTED_BY_RING)
        except CoreError as error:
            log.debug("no io_uring: %s", error.args[1])

    def counts(self) -> Counts:
        return Counts(*_COUNTS.unpack(self._object.data(".bss", 0, _COUNTS.size)))

    def follow(self) -> None:
        """Tick in a thread of its own: whoever reads events may be held up by their reader."""
        self._thread = threading.Thread(target=self._follow, name="ig-sockets", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        from ig_py._core import CoreError

        while not self._ended.wait(TICK_SECONDS):
            try:
                self.tick()
            except CoreError as error:
                log.warning("keeping the owners of sockets: %s", error.args[1])
                return

    def tick(self) -> None:
        """Let go of what was closed a while ago, and look for what was missed."""
        self._object.iterate(_PURGE, map=MAP)
        self._object.iterate(_WAITING, map="connecting")
        counts = self.counts()
        if counts.full and not self._told:
            self._told = True
            log.warning("there are more sockets than %s holds: owners of some stay unknown", MAP)
        rested = time.monotonic() >= self._rested
        if rested and (self.walks or counts.missed > self._repaired.missed):
            self._walk()
            self._repaired = counts

    def _walk(self) -> None:
        began = time.thread_time()
        self._object.iterate(_HELD)
        if self.walks:
            self._object.iterate(_LOST, map="known")
        worked = time.thread_time() - began
        self._rested = time.monotonic() + SHARE_OF_TIME * worked

    def close(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._object.close()
        self.map.close()


def _is_root(mount: str) -> bool:
    try:
        return Path(mount).stat().st_ino == _ROOT_INODE
    except OSError:
        return False


_Kind = tuple[Layout, int]
_lock = threading.Lock()
_shared: dict[_Kind, tuple[SocketOwners, int]] = {}


class Lease:
    """What one user of shared owners holds; :meth:`release` it once."""

    def __init__(self, kind: _Kind, owners: SocketOwners) -> None:
        self._kind = kind
        self.owners = owners

    def release(self) -> None:
        with _lock:
            owners, users = _shared[self._kind]
            if users > 1:
                _shared[self._kind] = owners, users - 1
                return
            del _shared[self._kind]
        # Detaching waits for other processors (RCU), which nobody needs to see the end of.
        threading.Thread(target=owners.close, name="ig-sockets-close").start()


def acquire(
    layout: Layout,
    entries: int,
    view: HostView,
    make: Callable[[Layout, int, HostView], SocketOwners] = SocketOwners,
) -> Lease:
    """The shared owners of this layout, loaded for their first user.

    :raises CoreError: as :class:`SocketOwners`.
    """
    kind = (layout, entries)
    with _lock:
        if kind in _shared:
            owners, users = _shared[kind]
        else:
            owners, users = make(layout, entries, view), 0
            owners.follow()
        _shared[kind] = owners, users + 1
        return Lease(kind, owners)
