"""What programs are attached to one by one: the selected containers, and the host if asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ig_py.records import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """``id`` is "" for the host. ``mntns`` and ``netns`` are 0 where they may not be read.
    ``owner``: see :class:`~ig_py.containers.model.Container`."""

    id: str
    name: str
    pid: int
    mntns: int = 0
    netns: int = 0
    host_network: bool = False
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class Awaited:
    """What the start of a container waits for: the container of that id, or, ``container_id``
    None, all that are known to be made. ``of_root``: as far as they are root's, which no user can
    make wait."""

    container_id: str | None
    of_root: bool

    def includes(self, container_id: str, owner: int | None) -> bool:
        """Whether the container of that id, made by *owner* (None, 0: root), is waited for."""
        return self.container_id in (None, container_id) and not (self.of_root and owner)


HOST = Target("", "the host", 1, host_network=True)


class TargetSubscriber(Protocol):
    """What attaches programs. Called once a target, with the targets locked: it returns soon."""

    def added(self, target: Target) -> None: ...

    def removed(self, target: Target) -> None: ...

    def after(self, awaited: Awaited, done: Callable[[], None]) -> None:
        """Call *done*, from any thread, once what was told before of these targets is dealt
        with."""


class Targets:
    """The targets of now. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._live: dict[str, Target] = {}
        self._subscribers: list[TargetSubscriber] = []

    def add(self, target: Target) -> None:
        with self._lock:
            if target.id in self._live:
                return
            self._live[target.id] = target
            for subscriber in self._subscribers:
                subscriber.added(target)

    def remove(self, target_id: str) -> None:
        with self._lock:
            target = self._live.pop(target_id, None)
            if target is not None:
                for subscriber in self._subscribers:
                    subscriber.removed(target)

    def live(self) -> list[Target]:
        """The targets of now, oldest first."""
        with self._lock:
            return list(self._live.values())

    def subscribe(self, subscriber: TargetSubscriber) -> None:
        """Tell *subscriber* of every target there is, and of every change from now on."""
        with self._lock:
            for target in self._live.values():
                subscriber.added(target)
            self._subscribers.append(subscriber)

    def unsubscribe(self, subscriber: TargetSubscriber) -> None:
        """No call is under way or will follow once this returns."""
        with self._lock:
            self._subscribers.remove(subscriber)

    def after(self, awaited: Awaited, done: Callable[[], None]) -> None:
        """Call *done* once every subscriber has dealt with what it was told before of these
        targets."""
        with self._lock:
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            done = partial(subscriber.after, awaited, done)
        done()
