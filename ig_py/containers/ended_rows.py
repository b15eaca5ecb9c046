"""Mount namespaces that have ended while a gadget's maps have rows of them.

The kernel gives the inode number of a mount namespace that has ended to the next one. A map may be
read an hour later: a row with that number would be taken for one of the later namespace. So the
rows are taken out of the maps soon after the end, while a descriptor still keeps the number
(nsfs: the namespace lives as long as one is open), and are shown when the map is due. Nothing is
pinned longer than that: a mount namespace keeps the file systems of its container busy.

Rows that could not be taken in time (the namespace had ended before it was looked at) are counted
as lost when the number has been given to another one: the core knows by the scout's notices.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

MAX_PINS = 1024
"""Namespaces that are kept at once; a container that runs is pinned by the collection."""
TAKE_NS = 1_000_000_000
"""After this time rows are taken out of maps that are not read until then: late ones of programs
that were running at the end have come, and the collection (GRACE_SECONDS) still has the names."""


class EndedRows:
    """Thread-safe. *maps* are the data sources whose rows these are."""

    def __init__(self, maps: frozenset[str], clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.maps = maps
        self._clock = clock
        self._lock = threading.Lock()
        self._pins: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        """Mount namespace → when it ended, oldest first."""
        self._last = clock() - TAKE_NS
        """When rows were taken last: each time costs a walk through the maps."""

    def pin(self, mntns: int, process: str) -> None:
        """Keep the namespace of the process at ``/proc/PID``, *process*, if it is that one."""
        with self._lock:
            if mntns in self._pins or len(self._pins) >= MAX_PINS:
                return
            try:
                fd = os.open(f"{process}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                # It has ended.
                return
            if os.fstat(fd).st_ino == mntns:
                self._pins[mntns] = fd
            else:
                os.close(fd)

    def unpin(self, mntns: int) -> None:
        """Another descriptor keeps it from now on."""
        with self._lock:
            self._let_go(mntns)

    def end(self, mntns: int) -> None:
        """No more rows of it will come."""
        with self._lock:
            self._ended.setdefault(mntns, self._clock())

    def due(self) -> int | None:
        """When rows have to be taken, in ns of the clock; None: there are none."""
        with self._lock:
            return self._due()

    def _due(self) -> int | None:
        first = next(iter(self._ended.values()), None)
        return None if first is None else max(first, self._last) + TAKE_NS

    def to_take(self) -> list[int]:
        """The namespaces whose rows are to be taken now: those that ended long enough ago."""
        with self._lock:
            now = self._clock()
            due = self._due()
            if due is None or now < due:
                return []
            self._last = now
            return [number for number, ended in self._ended.items() if ended + TAKE_NS <= now]

    def taken(self, mntns: list[int]) -> None:
        """Their rows are out of the maps."""
        with self._lock:
            for number in mntns:
                self._ended.pop(number, None)
                self._let_go(number)

    def read(self, since: int) -> None:
        """All rows that were there at *since*, in ns of the clock, are out of the maps."""
        with self._lock:
            done = [number for number, ended in self._ended.items() if ended < since]
        self.taken(done)

    def close(self) -> None:
        with self._lock:
            self._ended.clear()
            for number in list(self._pins):
                self._let_go(number)

    def _let_go(self, mntns: int) -> None:
        if (fd := self._pins.pop(mntns, None)) is not None:
            os.close(fd)
