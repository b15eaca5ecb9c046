"""Writing rendered batches: a thread of its own, a bounded queue, exact accounts.

The thread that drains the kernel must not wait for a slow terminal longer than
the queue allows; then the kernel's buffer fills, and the kernel counts what is
lost. What was taken from the kernel but could not be written is counted here.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Collection

from ig_py.host.nonblocking import NonBlockingWriter
from ig_py.records import dataclass

MAX_QUEUED_BYTES = 8 << 20
"""Rendered bytes that may wait for the reader of stdout."""

LAST_SECONDS = 0.1
"""Given to a write that waits in the kernel when :meth:`Writer.close` has waited long enough."""


@dataclass(frozen=True, slots=True)
class _Batch:
    datasource: str
    data: bytes
    events: int
    whole_events: Callable[[int], int]


class Writer:
    """Writes to the file descriptor *fd*; *on_broken* is called once, from the
    writer's thread, when the reader has gone or the disk is full.

    *continuous*: data sources whose batches mean nothing without those before: after one
    was given up, so are all that follow.
    """

    def __init__(
        self,
        fd: int,
        on_broken: Callable[[OSError], None],
        limit: int = MAX_QUEUED_BYTES,
        continuous: Collection[str] = (),
    ) -> None:
        self._file = NonBlockingWriter(fd)
        self._on_broken = on_broken
        self._limit = limit
        self._continuous = continuous
        self._queue: deque[_Batch] = deque()
        self._queued = 0
        self._written = 0
        """Bytes of the queue's first batch."""
        self._closing = False
        self._given_up = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._broken: OSError | None = None
        self._changed = threading.Condition()
        self._lost: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="ig-py-writer", daemon=True)
        self._thread.start()

    @property
    def broken(self) -> OSError | None:
        """Why nothing can be written any more."""
        return self._broken

    def put(
        self,
        datasource: str,
        data: bytes,
        events: int,
        abandon: Callable[[], bool],
        whole_events: Callable[[int], int] = lambda written: 0,
    ) -> None:
        """Queue *data*, which renders *events* events; waits while the queue is full.

        Gives up, counting the events as lost, when *abandon* says so meanwhile. *whole_events*:
        how many events the first bytes of *data* show whole, for a batch that is cut.
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
                    self._queue.append(_Batch(datasource, data, events, whole_events))
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

        Of a batch that the time limit, the reader or a full disk cuts, events that were written
        whole are not lost.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(max(0.0, timeout))
        with self._changed:
            self._given_up = True
            os.eventfd_write(self._wake, 1)
        self._thread.join(LAST_SECONDS)
        with self._changed:
            self._lose_queued()
            return dict(self._lost)

    def _lose_queued(self) -> None:
        while self._queue:
            batch = self._queue.popleft()
            whole = batch.whole_events(self._written) if self._written else 0
            self._count_lost(batch.datasource, batch.events - whole)
            self._written = 0
        self._queued = 0

    def _count_lost(self, datasource: str, events: int) -> None:
        if events:
            self._lost[datasource] = self._lost.get(datasource, 0) + events

    def _run(self) -> None:
        try:
            while self._write_first():
                pass
        except OSError as err:
            with self._changed:
                self._broken = err
                self._lose_queued()
                self._changed.notify_all()
            self._on_broken(err)
        finally:
            with self._changed:
                self._file.close()

    def _write_first(self) -> bool:
        """Wait for a batch and write it; False when there are no more."""
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            if not self._queue:
                return False
            data = self._queue[0].data
        view = memoryview(data)
        while view:
            try:
                count = self._file.write(view)
            except BlockingIOError:
                self._file.wait(self._wake)
                count = 0
            view = view[count:]
            with self._changed:
                self._written += count
                if self._given_up:
                    # close() counts what is left of this batch.
                    return False
                if not view:
                    self._queue.popleft()
                    self._written = 0
                    self._queued -= len(data)
                    self._changed.notify_all()
        return True

    def __del__(self) -> None:
        os.close(self._wake)
