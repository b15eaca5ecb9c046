"""A thread that attaches programs to containers as they come, and lets go as they end.

Reading a container's files may take long, and nobody else must wait for it: neither
the container, nor those who tell of containers.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from ig_py.containers.targets import Target, Targets
from ig_py.errors import IgPyError

log = logging.getLogger(__name__)

_CHECK_SECONDS = 0.1
MAX_WAITING = 100_000
"""Containers told of and not looked at yet; a host has far fewer."""


class Attachment(Protocol):
    """What follows targets; all calls come from one thread."""

    def attach(self, target: Target) -> None:
        """Attach to *target*; raises IgPyError, CoreError or OSError when it cannot."""

    def detach(self, target: Target) -> None: ...


class ContainerFollower:
    """Implements :class:`~ig_py.containers.targets.Follower` for several attachments."""

    def __init__(self, targets: Targets, attachments: list[Attachment]) -> None:
        self._targets = targets
        self._attachments = attachments
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._work, name="ig-py-follow", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._targets.follow(self)

    def settle(self, seconds: float, check: Callable[[], None] = lambda: None) -> bool:
        """Wait until what was told so far is done; False when that takes longer."""
        done = threading.Event()
        self._put(done.set)
        end = time.monotonic() + seconds
        while not done.wait(_CHECK_SECONDS):
            check()
            if time.monotonic() > end:
                return False
        return True

    def stop(self) -> None:
        """End the thread; what is attached stays."""
        self._targets.unfollow(self)
        # What waits is not worth doing any more.
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        self._queue.put(None)
        self._thread.join()

    def added(self, target: Target) -> None:
        self._put(lambda: self._each(lambda a: a.attach(target), target))

    def removed(self, target: Target) -> None:
        self._put(lambda: self._each(lambda a: a.detach(target), target))

    def after(self, done: Callable[[], None]) -> None:
        self._put(done)

    def _put(self, work: Callable[[], None]) -> None:
        try:
            self._queue.put_nowait(work)
        except queue.Full:
            log.warning("too many containers at once: some are not traced")

    def _each(self, work: Callable[[Attachment], None], target: Target) -> None:
        from ig_py._core import CoreError

        for attachment in self._attachments:
            try:
                work(attachment)
            except CoreError as error:
                log.warning("container %a: %s", target.name, error.message)
            except (FileNotFoundError, ProcessLookupError) as error:
                # It was gone before its turn came: there is nothing to miss.
                log.debug("container %a: %s", target.name, error)
            except (IgPyError, OSError) as error:
                log.warning("container %a: %s", target.name, error)

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
