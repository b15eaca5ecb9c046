"""Writing to a descriptor that others share, without ever waiting in the write itself.

O_NONBLOCK belongs to the open file, which a shell and its other children share: it must not be set
there. A pipe, a FIFO or a terminal is opened once more instead, by its link in /proc/self/fd
(proc(5)), and a socket has a flag for each call (send(2)).
"""

from __future__ import annotations

import os
import select
import stat

_CHUNK = 1 << 16


class NonBlockingWriter:
    """Writes to *fd*, which stays open when this is closed.

    Of a file of another kind, and where it cannot be opened once more, :meth:`write` waits as
    write(2) does.
    """

    def __init__(self, fd: int) -> None:
        self._socket = None
        self._own: int | None = None
        self._fd = fd
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            import socket

            self._socket = socket.socket(fileno=os.dup(fd))
        elif stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and os.isatty(fd)):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                self._own = self._fd = os.open(f"/proc/self/fd/{fd}", flags)
            except OSError:
                # No /proc, no right, or no reader: the write itself says so.
                self._own = None

    def write(self, data: memoryview) -> int:
        """Write a part of *data*; how many bytes.

        Raises:
            BlockingIOError: There is no room now.
            OSError: It cannot be written.
        """
        if self._socket is not None:
            import socket

            return self._socket.send(data[:_CHUNK], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return os.write(self._fd, data[:_CHUNK])

    def wait(self, wake: int, seconds: float | None = None) -> None:
        """Wait for room, or until descriptor *wake* is readable, or for *seconds*."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.register(wake, select.POLLIN)
        poll.poll(None if seconds is None else max(0.0, seconds) * 1000)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._own is not None:
            os.close(self._own)
            self._own = None
