"""A flag that threads and signal handlers set, and that poll(2) can wait for."""

from __future__ import annotations

import os


class Latch:
    """A flag that is set once and can be waited for.

    Unlike :class:`threading.Event` it may be set in a signal handler whatever
    the interrupted thread is doing: it takes no lock.
    """

    def __init__(self) -> None:
        self._set = False
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def set(self) -> None:
        if not self._set:
            self._set = True
            os.eventfd_write(self._fd, 1)

    def __bool__(self) -> bool:
        return self._set

    def fileno(self) -> int:
        return self._fd

    def __del__(self) -> None:
        os.close(self._fd)
