"""What programs are attached to one by one: the selected containers, and the host if asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ig_py.records import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """``id`` is "" for the host. ``mntns`` and ``netns`` are 0 where they may not be read."""

    id: str
    name: str
    pid: int
    mntns: int = 0
    netns: int = 0
    host_network: bool = False


HOST = Target("", "the host", 1, host_network=True)


class TargetSubscriber(Protocol):
    """What attaches programs. Called once a target, with the targets locked: it returns soon."""

    def added(self, target: Target) -> None: ...

    def removed(self, target: Target) -> None: ...

    def after(self, target_id: str | None, done: Callable[[], None]) -> None:
        """Call *done*, from any thread, once what was told before of that target is dealt with
        (None: of all targets)."""


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

    def after(self, target_id: str | None, done: Callable[[], None]) -> None:
        """Call *done* once every subscriber has dealt with what it was told before of that target
        (None: of all targets)."""
        with self._lock:
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            done = partial(subscriber.after, target_id, done)
        done()
