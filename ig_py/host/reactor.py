"""One thread that waits for many descriptors and timers: ends of processes, new cgroups, the end of
grace times. It never does network I/O, so no engine can hold it up.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import select
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

JOIN_SECONDS = 1.0


class Reactor:
    """Thread-safe; callbacks run in its thread, one at a time, with no lock held."""

    def __init__(self, name: str) -> None:
        self._epoll = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._lock = threading.Lock()
        self._readers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call *callback* whenever *fd* is readable (level-triggered)."""
        with self._lock:
            if self._stopping:
                return
            self._readers[fd] = callback
            self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Call it before *fd* is closed; a descriptor that is not watched is ignored."""
        with self._lock:
            if self._readers.pop(fd, None) and not self._stopping:
                with contextlib.suppress(OSError):
                    self._epoll.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call *callback* once, after *seconds*."""
        with self._lock:
            if self._stopping:
                return
            heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._serial), callback))
            self._wake()

    def soon(self, callback: Callable[[], None]) -> None:
        self.later(0, callback)

    def stop(self) -> None:
        """End the thread; callbacks that were not called yet never are. Not from a callback."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            self._wake()
        if self._thread.ident is not None:
            self._thread.join(JOIN_SECONDS)
        if self._thread.is_alive():
            log.warning("a container watcher did not stop in %s s", JOIN_SECONDS)
            return
        self._epoll.close()
        os.close(self._wake_fd)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake_fd, 1)

    def _run(self) -> None:
        while not self._stopping:
            timeout = self._next_timer()
            for fd, _ in self._epoll.poll(timeout):
                if fd == self._wake_fd:
                    with contextlib.suppress(OSError):
                        os.eventfd_read(self._wake_fd)
                    continue
                with self._lock:
                    callback = self._readers.get(fd)
                if callback and not self._stopping:
                    self._call(callback)
            self._fire()

    def _next_timer(self) -> float | None:
        with self._lock:
            if not self._timers:
                return None
            return max(0.0, self._timers[0][0] - time.monotonic())

    def _fire(self) -> None:
        now = time.monotonic()
        while not self._stopping:
            with self._lock:
                if not self._timers or self._timers[0][0] > now:
                    return
                _, _, callback = heapq.heappop(self._timers)
            self._call(callback)

    def _call(self, callback: Callable[[], None]) -> None:
        # The thread serves every container: the failure of one callback must not end it.
        try:
            callback()
        except Exception as error:
            log.warning("watching containers: %s: %s", type(error).__name__, error)
