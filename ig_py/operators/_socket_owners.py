"""The map of sockets' owners, filled in the kernel by an object of ours (docs/sockets.md).

Loaded once a process for each layout of the map's values, and shared by the gadgets that have it.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ig_py.gadget.sockets import KEY_SIZE, MAP, Layout
from ig_py.host.proc import HostView
from ig_py.operators import _socket_hooks as socket_hooks
from ig_py.records import dataclass

if TYPE_CHECKING:
    from ig_py._core import Map, Object

log = logging.getLogger(__name__)

TICK_SECONDS = 2.0
"""How often owners of closed sockets are looked for, and missed ones of open sockets."""
SHARE_OF_TIME = 50
"""After a walk over all open files, this many times the processor's time that it took."""

_HASH = 1
_HELD, _LOST = "sockets_held", "sockets_lost"
_PURGE, _WAITING = "sockets_purge", "sockets_waiting"
_COUNTS = struct.Struct("=QQQQ")


@dataclass(frozen=True)
class Counts:
    """Since it was loaded: owners that found no room, owners that found no scratch memory,
    sockets that went whose port others have too, calls that nobody saw the end of."""

    full: int = 0
    busy: int = 0
    orphans: int = 0
    unseen: int = 0

    @property
    def missed(self) -> int:
        """Sockets whose owner a walk may find."""
        return self.full + self.busy + self.orphans + self.unseen


class SocketOwners:
    """The map and what fills it; :meth:`tick` is called now and then, or :meth:`follow` does.

    By trampolines, which need no more; else by programs of control groups. *trampolines* None
    takes what the kernel has.

    :raises CoreError: the kernel lacks what it needs (BTF, iterators, rights, memory).
    """

    def __init__(
        self, layout: Layout, entries: int, view: HostView, trampolines: bool | None = None
    ) -> None:
        from ig_py._core import Map, probe

        self.map: Map = Map.create(MAP, _HASH, KEY_SIZE, layout.value_size, entries)
        self._layout = layout
        self._entries = entries
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._rested = 0.0
        self._repaired = Counts()
        self._told = False
        self.walks = False
        """Not all sockets are told of: they are looked for at intervals."""
        try:
            if trampolines is None:
                trampolines = probe("fentry")
            by_trampolines = self._by_trampolines() if trampolines else None
            self._object = by_trampolines or self._by_cgroups(view)
            self.trampolines = by_trampolines is not None
        except BaseException:
            self.map.close()
            raise
        # Now nothing is missed; who was there before comes after, where nobody is.
        try:
            self._walk()
        except BaseException:
            self.close()
            raise

    def _by_trampolines(self) -> Object | None:
        from ig_py._core import CoreError

        obj = None
        try:
            obj = self._load(trampolines=True)
            socket_hooks.attach_trampolines(obj)
        except CoreError as error:
            log.debug("sockets are told of by control groups: %s", error.message)
            if obj is not None:
                obj.close()
            return None
        return obj

    def _by_cgroups(self, view: HostView) -> Object:
        obj = self._load(trampolines=False)
        if why := socket_hooks.attach_to_cgroups(obj, view):
            self.walks = True
            log.warning(
                "owners of sockets are looked for every %g seconds, those of short-lived ones "
                "stay unknown: %s",
                TICK_SECONDS,
                why,
            )
        return obj

    def _load(self, trampolines: bool) -> Object:
        from ig_py._core import Object, sockets_object

        obj = Object(sockets_object(), "sockets")
        socket_hooks.choose(obj, trampolines)
        obj.set_data(".rodata", 0, struct.pack("=II", self._layout.cwd, self._layout.exepath))
        obj.set_max_entries(MAP, self._entries)
        obj.set_map_type(MAP, _HASH, KEY_SIZE, self._layout.value_size)
        obj.reuse_map(MAP, self.map)
        obj.load()
        return obj

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
                log.warning("keeping the owners of sockets: %s", error.message)
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
