"""Threads that look at containers' files, which may never answer."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

MAX_LOOKUPS = 64
"""Threads at the same time."""
MAX_LOOKUPS_OF_USER = 8
"""Threads for the containers of one user who is not root."""
MAX_LOOKUPS_OF_USERS = 32
"""Threads for the containers of all users who are not root."""
WAIT_SECONDS = 1.0


class TooManyLookups(Exception):
    """No thread is started: so many wait already for files that do not answer."""


class Lookups:
    """Each work has a thread of its own: a system call that waits for a FUSE server ends only with
    its process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[threading.Thread, int | None] = {}

    def start(self, work: Callable[[], None], owner: int | None) -> None:
        """Do *work* for a container of *owner* (None: root's) in a thread.

        Raises:
            TooManyLookups: It was not started.
        """

        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    del self._threads[thread]

        # A thread that never ends must not keep the process from ending.
        thread = threading.Thread(target=run, name="ig-py-lookup", daemon=True)
        with self._lock:
            of = Counter(self._threads.values())
            of_users = sum(count for user, count in of.items() if user)
            if of.total() >= MAX_LOOKUPS or (
                owner and (of[owner] >= MAX_LOOKUPS_OF_USER or of_users >= MAX_LOOKUPS_OF_USERS)
            ):
                raise TooManyLookups("the files of too many other containers do not answer")
            self._threads[thread] = owner
        try:
            thread.start()
        except RuntimeError as error:
            with self._lock:
                del self._threads[thread]
            raise TooManyLookups(f"no thread to read its files: {error}") from None

    def wait(self) -> None:
        """Until all have ended, :data:`WAIT_SECONDS` at most."""
        end = time.monotonic() + WAIT_SECONDS
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
