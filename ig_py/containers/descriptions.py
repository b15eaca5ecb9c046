"""What is known of containers apart from their processes, by id.

An engine describes a container, or the container's own files do. Its init process is found by
other sources. Whichever comes first waits here for the other one. What each speaker says has a
table of its own, so that no user's engine takes the room of others.
"""

from __future__ import annotations

import threading

from ig_py.containers.collection import MAX_CONTAINERS
from ig_py.containers.model import Container
from ig_py.containers.sources import DiscoverySource
from ig_py.containers.speakers import ROOT, Claim, Speaker
from ig_py.records import dataclass, field, replace

MAX_WAITING = 4096
"""Inits that wait for a description, and ids that are ignored."""
MAX_OF_USER = 1024
"""As both limits, and :data:`MAX_CONTAINERS`, for what one user says."""
MAX_USERS = 64
"""Users who are listened to."""

Waiting = tuple[int, DiscoverySource, Claim, int]
"""The init of a container, which source has found it, and whose word that is."""


@dataclass
class _Table:
    """What one speaker says."""

    known: dict[str, Container] = field(default_factory=dict)
    unmanaged: set[str] = field(default_factory=set)
    inits: dict[str, Waiting] = field(default_factory=dict)
    ignored: dict[str, None] = field(default_factory=dict)


class Descriptions:
    """Thread-safe. *lock* is the discovery's: it guards the live containers as well, so that a
    description and the container in the collection change together."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._root = _Table()
        self._users: dict[Speaker, _Table] = {}

    def get(self, container_id: str, speaker: Speaker = ROOT) -> Container | None:
        """What *speaker* says of a container."""
        return self._table(speaker).known.get(container_id)

    def put(self, container: Container, speaker: Speaker = ROOT) -> bool:
        """What an engine said; False when there is no room, or a better description."""
        with self._lock:
            table = self._table(speaker, create=True)
            known = table.known.get(container.id)
            most = MAX_CONTAINERS if speaker.is_root else MAX_OF_USER
            if known is None and len(table.known) >= most:
                return False
            if known and _is_dockers(known) and not _is_dockers(container):
                # Docker's containers are containerd's as well, which does not know their names.
                return False
            table.known[container.id] = container
            table.unmanaged.discard(container.id)
            return True

    def remove(self, container_id: str, speaker: Speaker = ROOT) -> None:
        with self._lock:
            table = self._table(speaker)
            table.unmanaged.discard(container_id)
            table.known.pop(container_id, None)

    def is_unmanaged(self, container_id: str, speaker: Speaker = ROOT) -> bool:
        """Whether no engine has described it."""
        return container_id in self._table(speaker).unmanaged

    def set_unmanaged(self, container_id: str, speaker: Speaker = ROOT) -> None:
        with self._lock:
            self._table(speaker).unmanaged.add(container_id)

    def init_found(self, container_id: str, waiting: Waiting) -> Container | None:
        """The description of a container whose init is found; None when there is none yet: then
        the init waits for it."""
        speaker = waiting[2].speaker
        with self._lock:
            table = self._table(speaker, create=True)
            known = table.known.get(container_id)
            if known is None:
                _keep(table.inits, speaker)
                table.inits[container_id] = waiting
            return known

    def take_init(self, container_id: str, speaker: Speaker = ROOT) -> Waiting | None:
        """The init that waited for a description, once."""
        with self._lock:
            return self._table(speaker).inits.pop(container_id, None)

    def ignore(self, container_id: str, speaker: Speaker = ROOT) -> None:
        """It is a pod's sandbox, which only holds the pod's namespaces."""
        with self._lock:
            ignored = self._table(speaker, create=True).ignored
            _keep(ignored, speaker)
            ignored[container_id] = None

    def ignored(self, container_id: str, speaker: Speaker = ROOT) -> bool:
        return container_id in self._table(speaker).ignored

    def deleted(self, container_id: str, speaker: Speaker = ROOT) -> Container | None:
        """The engine has deleted it. Its description, which events of it may still need."""
        with self._lock:
            table = self._table(speaker)
            table.inits.pop(container_id, None)
            table.ignored.pop(container_id, None)
            return table.known.get(container_id)

    def _table(self, speaker: Speaker, *, create: bool = False) -> _Table:
        if speaker.is_root:
            return self._root
        table = self._users.get(speaker)
        if table is None:
            table = _Table()
            if create and len(self._users) < MAX_USERS:
                self._users[speaker] = table
        return table


def _is_dockers(container: Container) -> bool:
    """Whether Docker itself told of it: with its name."""
    runtime = container.runtime
    return runtime.name == "docker" and runtime.container_name != container.id


def _keep(table: dict[str, Waiting] | dict[str, None], speaker: Speaker) -> None:
    """Make room for one more: the oldest goes."""
    most = MAX_WAITING if speaker.is_root else MAX_OF_USER
    while len(table) >= most:
        del table[next(iter(table))]


def merged(live: Container, news: Container) -> Container:
    """A *live* container with what an engine's *news* say of it; its process stays."""
    runtime = replace(
        news.runtime,
        pid=live.runtime.pid,
        started_at=live.runtime.started_at,
        image_name=news.runtime.image_name or live.runtime.image_name,
        image_id=news.runtime.image_id or live.runtime.image_id,
        image_digest=news.runtime.image_digest or live.runtime.image_digest,
    )
    return replace(live, runtime=runtime, k8s=news.k8s)
