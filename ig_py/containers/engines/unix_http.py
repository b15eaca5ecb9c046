"""HTTP/1.1 over a unix socket: one request after the other over a connection.

The standard library's client, as it is: it follows no redirects, reads no proxies or
credentials from the environment, decodes no compression, and bounds a line and the number of
headers. What is added is a time limit on an answer as a whole, so that a peer that sends a
byte now and then, in a header or between chunks, cannot hold the caller.
"""

from __future__ import annotations

import errno
import http.client
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class AnswerTooSlow(TimeoutError):
    """An answer was not complete when its time was over."""


class DeadlineSocket(socket.socket):
    """A socket whose reads end at *deadline* (``time.monotonic()``), however many they are.

    *deadline* None: a read waits for ever. *before_read* may wait before each read: what is read is
    what a peer makes us work for, in headers and between chunks as well.
    """

    def __init__(
        self, read_seconds: float, deadline: float, before_read: Callable[[], None] | None = None
    ) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._read_seconds = read_seconds
        self._before_read = before_read
        self.deadline: float | None = deadline
        self.limit(deadline)

    def limit(self, deadline: float) -> None:
        """The next answer has until *deadline*."""
        self.deadline = deadline
        self.settimeout(self._read_seconds)

    def wait_for_ever(self) -> None:
        """Lift the limits on later reads."""
        self.deadline = None
        self.settimeout(None)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0, /) -> int:
        """What the files of ``makefile()`` read with, and so :mod:`http.client`."""
        if self._before_read is not None:
            self._before_read()
        if self.deadline is None:
            return super().recv_into(buffer, nbytes, flags)
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise AnswerTooSlow
        self.settimeout(min(self._read_seconds, left))
        try:
            return super().recv_into(buffer, nbytes, flags)
        except TimeoutError as error:
            if left < self._read_seconds:
                raise AnswerTooSlow from error
            raise


class UnixConnection(http.client.HTTPConnection):
    """A connection to the socket *path*; *connected* gets the socket before anything is sent."""

    def __init__(
        self, path: str, sock: DeadlineSocket, connected: Callable[[DeadlineSocket], None]
    ) -> None:
        super().__init__("localhost")
        self._path = path
        self._socket = sock
        self._connected = connected

    def close(self) -> None:
        super().close()
        self._socket.close()

    @property
    def usable(self) -> bool:
        """Whether another request can follow: neither side has closed the connection."""
        return self.sock is not None

    def limit(self, deadline: float) -> None:
        """The next answer has until *deadline*."""
        self._socket.limit(deadline)

    def wait_for_ever(self) -> None:
        """Lift the limits on later reads."""
        self._socket.wait_for_ever()

    def connect(self) -> None:
        self.sock = self._socket
        try:
            self._socket.connect(self._path)
        except OSError as error:
            if error.errno is None:
                # Python's own check of sun_path's size.
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)) from error
            raise
        self._connected(self._socket)
