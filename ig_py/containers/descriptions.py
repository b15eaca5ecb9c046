"""What is known of containers apart from their processes, by id.

An engine describes a container, or the container's own files do. Its init process is found by
other sources. Whichever comes first waits here for the other one.
"""

from __future__ import annotations

import threading

from ig_py.containers.collection import MAX_CONTAINERS
from ig_py.containers.model import Container
from ig_py.containers.sources import DiscoverySource
from ig_py.records import replace

MAX_WAITING = 4096
"""Inits that wait for a description, and ids that are ignored."""


class Descriptions:
    """Thread-safe. *lock* is the discovery's: it guards the live containers as well, so that a
    description and the container in the collection change together."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._known: dict[str, Container] = {}
        self._unmanaged: set[str] = set()
        self._inits: dict[str, tuple[int, DiscoverySource]] = {}
        self._ignored: dict[str, None] = {}

    def get(self, container_id: str) -> Container | None:
        return self._known.get(container_id)

    def put(self, container: Container) -> bool:
        """What an engine said; False when there is no room, or a better description."""
        with self._lock:
            known = self._known.get(container.id)
            if known is None and len(self._known) >= MAX_CONTAINERS:
                return False
            if known and known.runtime.name == "docker" != container.runtime.name:
                # Docker's containers are containerd's as well, which does not know their names.
                return False
            self._known[container.id] = container
            self._unmanaged.discard(container.id)
            return True

    def remove(self, container_id: str) -> None:
        with self._lock:
            self._unmanaged.discard(container_id)
            self._known.pop(container_id, None)

    def is_unmanaged(self, container_id: str) -> bool:
        """Whether no engine has described it."""
        return container_id in self._unmanaged

    def set_unmanaged(self, container_id: str) -> None:
        with self._lock:
            self._unmanaged.add(container_id)

    def init_found(self, container_id: str, pid: int, source: DiscoverySource) -> Container | None:
        """The description of a container whose init is *pid*; None when there is none yet: then
        the init waits for it."""
        with self._lock:
            known = self._known.get(container_id)
            if known is None:
                while len(self._inits) >= MAX_WAITING:
                    del self._inits[next(iter(self._inits))]
                self._inits[container_id] = (pid, source)
            return known

    def take_init(self, container_id: str) -> tuple[int, DiscoverySource] | None:
        """The init that waited for a description, once."""
        with self._lock:
            return self._inits.pop(container_id, None)

    def ignore(self, container_id: str) -> None:
        """It is a pod's sandbox, which only holds the pod's namespaces."""
        with self._lock:
            while len(self._ignored) >= MAX_WAITING:
                del self._ignored[next(iter(self._ignored))]
            self._ignored[container_id] = None

    def ignored(self, container_id: str) -> bool:
        return container_id in self._ignored

    def deleted(self, container_id: str) -> Container | None:
        """The engine has deleted it. Its description, which events of it may still need."""
        with self._lock:
            self._inits.pop(container_id, None)
            self._ignored.pop(container_id, None)
            return self._known.get(container_id)


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
