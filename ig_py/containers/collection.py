"""The live set of containers, and a short memory of those that ended just now.

Every change is published to all subscribers in the order in which it happened. Adding, removing
and subscribing exclude each other, so a subscriber misses no container and hears of none twice.

A removed container stays known to ``by_mntns`` for a grace time, with its namespaces pinned: events
that are still in a buffer keep their names, and no new container can get the inode numbers of its
namespaces meanwhile.
"""

from __future__ import annotations

import enum
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from ig_py.containers.model import Container, valid_id
from ig_py.host.proc import Pins
from ig_py.records import dataclass, replace

log = logging.getLogger(__name__)

GRACE_SECONDS = 5.0
"""How long a removed container stays known."""
MAX_CONTAINERS = 65536


class EventType(enum.Enum):
    PRECREATE = "PRECREATE"
    """A runtime begins to create it: only its id and bundle are known, and it is not in the
    collection. The creation may still fail."""
    CREATED = "CREATED"
    """Now in the collection."""
    UPDATED = "UPDATED"
    """Same container, new data (a rename)."""
    DELETED = "DELETED"
    """No longer live; still found by namespace."""
    EXPIRED = "EXPIRED"
    """The grace time is over; its namespace numbers are about to be reusable."""


@dataclass(frozen=True, slots=True)
class Event:
    """``generation`` is not 0 for a container whose processes had all ended before it was taken
    in: the generation of its mount namespace (docs/discovery.md), whose inode number may be a later
    namespace's by now. ``named`` is False for a container that is taken in without what the engine
    that manages it knows of it."""

    type: EventType
    container: Container
    generation: int = 0
    named: bool = True


Subscriber = Callable[[Event], None]


@dataclass
class _Entry:
    container: Container
    pins: Pins
    removed_at: float = 0.0


class ContainerCollection:
    """Thread-safe. Subscribers are called with the collection locked: they must return soon, and
    must not wait for another thread that changes the collection."""

    def __init__(
        self, grace: float = GRACE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._grace = grace
        self._clock = clock
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        self._gone: deque[_Entry] = deque()
        self._by_mntns: dict[int, _Entry] = {}
        self._subscribers: dict[object, Subscriber] = {}
        self._closed = False

    def add(
        self,
        container: Container,
        pins: Pins | None = None,
        *,
        generation: int = 0,
        named: bool = True,
    ) -> bool:
        """Take a container (and the ownership of *pins*); False when its id is
        already there, is no valid id, or the collection is closed or full.

        *generation*, *named*: of the :class:`Event` CREATED."""
        pins = pins or Pins()
        with self._lock:
            refusal = self._refusal(container)
            if refusal:
                if refusal != "known":
                    log.warning("container %a left out: %s", container.id, refusal)
                pins.close()
                return False
            entry = _Entry(container, pins)
            self._entries[container.id] = entry
            self._index(entry, ended=bool(generation))
            self._publish(Event(EventType.CREATED, container, generation, named))
            return True

    def announce(self, container: Container) -> None:
        """Publish PRECREATE for a container that a runtime begins to create."""
        with self._lock:
            if not self._closed and valid_id(container.id) and container.id not in self._entries:
                self._publish(Event(EventType.PRECREATE, container))

    def update(self, container: Container) -> bool:
        """Replace the data of a live container, except its namespaces; False when absent."""
        with self._lock:
            entry = self._entries.get(container.id)
            if entry is None:
                return False
            old = entry.container
            container = replace(container, mntns=old.mntns, netns=old.netns)
            if container != old:
                entry.container = container
                self._publish(Event(EventType.UPDATED, container))
            return True

    def remove(self, container_id: str, generation: int = 0) -> bool:
        """Publish the end of a container while it can still be looked up; False when absent.

        *generation*: of the :class:`Event` DELETED."""
        with self._lock:
            entry = self._entries.get(container_id)
            if entry is None:
                return False
            self._publish(Event(EventType.DELETED, entry.container, generation))
            del self._entries[container_id]
            entry.removed_at = self._clock()
            self._gone.append(entry)
            return True

    def expire(self) -> float | None:
        """Forget those whose grace time is over; seconds until the next one, None when none."""
        with self._lock:
            now = self._clock()
            while self._gone and now - self._gone[0].removed_at >= self._grace:
                self._forget(self._gone.popleft())
            return self._gone[0].removed_at + self._grace - now if self._gone else None

    def get(self, container_id: str) -> Container | None:
        """The live container of that id."""
        entry = self._entries.get(container_id)
        return entry.container if entry else None

    def by_mntns(self, mntns: int) -> Container | None:
        """Live or recently gone; the latest of a shared mount namespace."""
        entry = self._by_mntns.get(mntns)
        return entry.container if entry else None

    def holder(self, mntns: int) -> Container | None:
        """As :meth:`by_mntns`; None where the number may be another namespace's by now."""
        with self._lock:
            return self._by_mntns[mntns].container if self._holds(mntns) else None

    def containers(self) -> list[Container]:
        """Every live container, oldest first."""
        with self._lock:
            return [e.container for e in self._entries.values()]

    def open_netns(self, wanted: Callable[[Container], bool]) -> list[int]:
        """The network namespaces of live containers that are *wanted*, each once:
        descriptors that the caller closes."""
        with self._lock:
            found = {
                e.container.netns: e.pins.net_fd
                for e in self._entries.values()
                if e.container.netns and e.pins.net_fd >= 0 and wanted(e.container)
            }
            return [os.dup(fd) for fd in found.values()]

    def __len__(self) -> int:
        return len(self._entries)

    def subscribe(self, key: object, subscriber: Subscriber) -> None:
        """Call *subscriber* with CREATED for every live container now, then with
        every change. *key* is for :meth:`unsubscribe`."""
        with self._lock:
            for entry in list(self._entries.values()):
                self._deliver(subscriber, Event(EventType.CREATED, entry.container))
            self._subscribers[key] = subscriber

    def unsubscribe(self, key: object) -> None:
        """No call is under way or will follow once this returns."""
        with self._lock:
            self._subscribers.pop(key, None)

    def close(self) -> None:
        """Forget every container without an event, and release the pinned namespaces."""
        with self._lock:
            self._closed = True
            self._subscribers.clear()
            for entry in [*self._entries.values(), *self._gone]:
                entry.pins.close()
            self._entries.clear()
            self._gone.clear()
            self._by_mntns.clear()

    def _refusal(self, container: Container) -> str:
        if self._closed:
            return "known"
        if not valid_id(container.id):
            return "its id is not usable as a file name"
        if container.id in self._entries:
            return "known"
        if len(self._entries) >= MAX_CONTAINERS:
            return f"more than {MAX_CONTAINERS} containers"
        return ""

    def _index(self, entry: _Entry, *, ended: bool) -> None:
        mntns = entry.container.mntns
        if not mntns or (ended and self._holds(mntns)):
            return
        self._by_mntns[mntns] = entry

    def _holds(self, mntns: int) -> bool:
        """Whether a container has that namespace now: one that had ended before had another one of
        that number. A pinned number is not used again."""
        entry = self._by_mntns.get(mntns)
        if entry is None:
            return False
        return entry.pins.mnt_fd >= 0 or self._entries.get(entry.container.id) is entry

    def _forget(self, entry: _Entry) -> None:
        mntns = entry.container.mntns
        if self._by_mntns.get(mntns) is entry:
            del self._by_mntns[mntns]
            self._publish(Event(EventType.EXPIRED, entry.container))
        entry.pins.close()

    def _publish(self, event: Event) -> None:
        for subscriber in list(self._subscribers.values()):
            self._deliver(subscriber, event)

    def _deliver(self, subscriber: Subscriber, event: Event) -> None:
        # The failure of one subscriber must not keep the event from the others.
        try:
            subscriber(event)
        except Exception as error:
            log.warning("container %a, %s: %s", event.container.id, event.type.value, error)
