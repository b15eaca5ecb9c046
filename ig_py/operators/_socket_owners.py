"""The map of sockets' owners, filled by eBPF programs of ig-py's own (docs/sockets.md).

One object for each layout of the map's values is loaded in a process; the gadgets that declare
this layout share it.
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
"""How often entries of closed sockets are deleted, and missing ones of open sockets looked for."""
SHARE_OF_TIME = 50
"""A walk over all open files is followed by a pause of this many times its processor time."""

_HASH = 1
_HELD, _LOST = "sockets_held", "sockets_lost"
_PURGE, _WAITING = "sockets_purge", "sockets_waiting"
_COUNTS = struct.Struct("=QQQQ")


@dataclass(frozen=True)
class Counts:
    """Reasons for owners that are missing from the map, counted since the object was loaded.

    Attributes:
        full: Owners for which the map had no room.
        busy: Owners for which the program had no scratch memory.
        orphans: Closed sockets whose port other sockets still have.
        unseen: Calls whose end no program saw.
    """

    full: int = 0
    busy: int = 0
    orphans: int = 0
    unseen: int = 0

    @property
    def missed(self) -> int:
        """Sockets whose owner a walk over all open files may find."""
        return self.full + self.busy + self.orphans + self.unseen


class SocketOwners:
    """The map and the programs that fill it.

    Trampolines (fentry, fexit) see every socket. Without them, programs of the root control group
    and of connect(2) are attached; then some sockets are found by walks only. The owner of this
    object calls :meth:`tick` at intervals, or :meth:`start_ticking` once.

    Args:
        layout: Members of a value of the map.
        entries: Most sockets of the map.
        view: Where processes and control groups are.
        trampolines: Which programs to use; None: trampolines where the kernel has them.

    Raises:
        CoreError: The kernel lacks BTF or iterators, or refuses rights or memory.
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
        self._warned = False
        self.walks = False
        """Programs do not see every socket: the others are looked for at intervals."""
        try:
            if trampolines is None:
                trampolines = probe("fentry")
            by_trampolines = self._by_trampolines() if trampolines else None
            self._object = by_trampolines or self._by_cgroups(view)
            self.trampolines = by_trampolines is not None
        except BaseException:
            self.map.close()
            raise
        # The attached programs record every new socket from now on. The walk then adds the
        # sockets that existed before.
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
            log.debug(
                "owners of sockets are found by programs of control groups: %s", error.message
            )
            if obj is not None:
                obj.close()
            return None
        return obj

    def _by_cgroups(self, view: HostView) -> Object:
        obj = self._load(trampolines=False)
        if why := socket_hooks.attach_to_cgroups(obj, view):
            self.walks = True
            log.warning(
                "owners of sockets are looked for every %g seconds only, those of short-lived"
                " sockets stay unknown: %s",
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

    def start_ticking(self) -> None:
        """Call :meth:`tick` in a thread of its own: the run's may wait for a slow reader."""
        self._thread = threading.Thread(
            target=self._tick_at_intervals, name="ig-sockets", daemon=True
        )
        self._thread.start()

    def _tick_at_intervals(self) -> None:
        from ig_py._core import CoreError

        while not self._ended.wait(TICK_SECONDS):
            try:
                self.tick()
            except CoreError as error:
                log.warning(
                    "owners of sockets are out of date from now on: keeping them: %s", error.message
                )
                return

    def tick(self) -> None:
        """Delete the entries of closed sockets, and look for open ones that are missing.

        Raises:
            CoreError: The kernel refuses to run an iterator.
        """
        self._object.iterate(_PURGE, map=MAP)
        self._object.iterate(_WAITING, map="connecting")
        counts = self.counts()
        if counts.full and not self._warned:
            self._warned = True
            log.warning("the map %s is full: owners of further sockets stay unknown", MAP)
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
    """The right of one gadget to use shared owners; :meth:`release` it once."""

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
        # Detaching waits for other processors (RCU); the run need not wait for that.
        threading.Thread(target=owners.close, name="ig-sockets-close").start()


def acquire(
    layout: Layout,
    entries: int,
    view: HostView,
    make: Callable[[Layout, int, HostView], SocketOwners] = SocketOwners,
) -> Lease:
    """The shared owners of this layout, loaded for their first user.

    Raises:
        CoreError: As :class:`SocketOwners`.
    """
    kind = (layout, entries)
    with _lock:
        if kind in _shared:
            owners, users = _shared[kind]
        else:
            owners, users = make(layout, entries, view), 0
            owners.start_ticking()
        _shared[kind] = owners, users + 1
        return Lease(kind, owners)
