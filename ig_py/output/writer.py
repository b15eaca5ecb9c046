"""Writing rendered batches in a thread of its own, through a bounded queue that counts losses.

The thread that reads the kernel's buffers waits for a slow terminal only while the queue is full.
Then the kernel's buffers fill, and the kernel counts the events that are lost. Events that were
taken from the kernel but could not be written are counted here.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection

MAX_QUEUED_BYTES = 8 << 20
"""Rendered bytes that may wait for the reader of stdout."""

_CHUNK = 1 << 16


class Writer:
    """Writes to the file descriptor *fd*; *on_broken* is called once, from the
    writer's thread, when the reader has gone or the disk is full.

    *continuous*: data sources whose batches cannot be read without the earlier ones: after one
    batch is dropped, all later ones are.
    """

    def __init__(
        self,
        fd: int,
        on_broken: Callable[[OSError], None],
        limit: int = MAX_QUEUED_BYTES,
        continuous: Collection[str] = (),
    ) -> None:
        self._fd = fd
        self._on_broken = on_broken
        self._limit = limit
        self._continuous = continuous
        self._queue: deque[tuple[str, bytes, int]] = deque()
        self._queued = 0
        self._closing = False
        self._broken: OSError | None = None
        self._changed = threading.Condition()
        self._lost: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="ig-py-writer", daemon=True)
        self._thread.start()

    @property
    def broken(self) -> OSError | None:
        """Why nothing can be written any more; None: it can."""
        return self._broken

    def put(self, datasource: str, data: bytes, events: int, abandon: Callable[[], bool]) -> None:
        """Queue *data*, which renders *events* events; waits while the queue is full.

        Gives up, counting the events as lost, when *abandon* says so meanwhile.
        """
        if not data:
            return
        with self._changed:
            if datasource in self._continuous and datasource in self._lost:
                self._count_lost(datasource, events)
                return
            while self._queued and self._queued + len(data) > self._limit:
                if self._broken or self._closing or abandon():
                    break
                self._changed.wait(0.1)
            else:
                if not self._broken and not self._closing:
                    self._queue.append((datasource, data, events))
                    self._queued += len(data)
                    self._changed.notify_all()
                    return
            self._count_lost(datasource, events)

    def lost(self) -> dict[str, int]:
        """Events given up so far, by data source."""
        with self._changed:
            return dict(self._lost)

    def close(self, timeout: float) -> dict[str, int]:
        """Write what is queued, at most *timeout* seconds; events never written, by data source.

        A batch cut by the time limit or by the reader counts as lost as a whole.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            while self._queue:
                datasource, _data, events = self._queue.popleft()
                self._count_lost(datasource, events)
            return dict(self._lost)

    def _count_lost(self, datasource: str, events: int) -> None:
        self._lost[datasource] = self._lost.get(datasource, 0) + events

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue:
                    return
                data = self._queue[0][1]
            try:
                self._write(data)
            except OSError as err:
                self._fail(err)
                return
            with self._changed:
                # close() may have given up on this batch, and counted it.
                if self._queue and self._queue[0][1] is data:
                    self._queue.popleft()
                self._queued -= len(data)
                self._changed.notify_all()

    def _fail(self, err: OSError) -> None:
        with self._changed:
            self._broken = err
            while self._queue:
                datasource, _data, events = self._queue.popleft()
                self._count_lost(datasource, events)
            self._queued = 0
            self._changed.notify_all()
        self._on_broken(err)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view[:_CHUNK]) :]
            except BlockingIOError:
                # Another process that shares the open file description made it non-blocking.
                import select

                select.select([], [self._fd], [])
