"""Messages to standard error that never make their sender wait.

The reader of standard error may stop: a pager, a terminal after Ctrl-S, a supervisor that hangs. A
thread that drains events or follows containers must not stop with it. So its messages wait in a
queue, and a thread of its own writes them. What does not fit is dropped, the oldest first, and
counted; the count is told in its place.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable

MAX_QUEUED_BYTES = 1 << 20
"""When more waits than this, the next message displaces the oldest ones."""
_SLICE = 0.1
"""Python runs handlers of signals in the main thread only, which must not wait longer at a time:
the kernel may interrupt another one."""


class Messages:
    """Writes to descriptor *fd*. *dropped* renders the line about a number of messages that were
    not written."""

    def __init__(
        self, fd: int, dropped: Callable[[int], bytes], limit: int = MAX_QUEUED_BYTES
    ) -> None:
        self._fd = fd
        self._render_dropped = dropped
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._dropped = 0
        self._writing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.stuck = False
        """Standard error took nothing for as long as :meth:`flush` waited."""

    def put(self, message: bytes) -> None:
        """Never waits."""
        with self._changed:
            while self._queue and self._queued > self._limit:
                self._queued -= len(self._queue.popleft())
                self._dropped += 1
            self._queue.append(message)
            self._queued += len(message)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="ig-py-messages", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def flush(self, seconds: float | None) -> bool:
        """Wait until all is written, at most *seconds* (None: as long as it takes); is it?"""
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while self._queue or self._writing:
                left = _SLICE if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    self.stuck = True
                    return False
                self._changed.wait(min(left, _SLICE))
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._queue:
                    self._changed.wait()
                message = self._queue.popleft()
                self._queued -= len(message)
                if self._dropped:
                    message = self._render_dropped(self._dropped) + message
                    self._dropped = 0
                self._writing = True
            self._write(message)

    def _write(self, message: bytes) -> None:
        view = memoryview(message)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                # Another process made this open file non-blocking.
                import select

                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError:
                # A closed standard error must not end the command.
                return
            self.stuck = False
