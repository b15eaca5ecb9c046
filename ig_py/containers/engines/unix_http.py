"""HTTP/1.1 over a unix socket: one GET, one answer, one connection (RFC 9112).

The standard library's client imports TLS and MIME, which nothing here speaks: 30 ms until the
containers of an engine are known, and some megabytes in a process that runs for months. As there,
no redirect is followed, nothing is read from the environment, no compression is decoded, and a line
and the number of headers are bounded. An answer as a whole has a time limit, so that a peer that
sends a byte now and then, in a header or between chunks, cannot hold the caller.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_LINE = 65536
"""Bytes of a line of the head, or of the size of a chunk."""
MAX_HEADERS = 100
_WITHOUT_BODY = (204, 304)
_CONTINUE = range(100, 200)
_HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF")
_MOST_DIGITS = 18
"""Of a length: less than 2^63."""


class NotHttp(Exception):
    """The answer is no HTTP."""


class BrokenOff(Exception):
    """The answer has not come to its end."""


class AnswerTooSlow(TimeoutError):
    """An answer was not complete when its time was over."""


class DeadlineSocket(socket.socket):
    """A socket whose reads end at *deadline* (``time.monotonic()``), however many they are.

    *deadline* None: a read waits for ever.
    """

    def __init__(self, read_seconds: float, deadline: float) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._read_seconds = read_seconds
        self.deadline: float | None = deadline
        self.settimeout(read_seconds)

    def connect_to(self, path: str) -> None:
        """Connect to the socket *path*.

        Raises:
            OSError: That fails.
        """
        try:
            self.connect(path)
        except OSError as error:
            if error.errno is None:
                # Python's own check of sun_path's size.
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)) from error
            raise

    def wait_for_ever(self) -> None:
        """Lift the limits on later reads."""
        self.deadline = None
        self.settimeout(None)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0, /) -> int:
        """What the files of ``makefile()`` read with."""
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


class Answer:
    """The answer to a GET; its body is read by :meth:`read1`.

    Args:
        sock: Connected.
        target: Path and query, quoted already.

    Raises:
        NotHttp: The answer is none.
        BrokenOff: There is none.
        OSError: The connection fails.
        ValueError: *target* has a blank, a control character or another one beyond ASCII.
    """

    def __init__(self, sock: DeadlineSocket, target: str) -> None:
        if not target.isascii() or not target.isprintable() or " " in target:
            raise ValueError("a target of a request has to be quoted")
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: identity\r\n\r\n"
        sock.sendall(head.encode("ascii"))
        self._file = sock.makefile("rb")
        # None: the body ends with the connection.
        self._left: int | None = None
        self._chunked = False
        try:
            self.status = self._status()
            while self.status in _CONTINUE:
                self._headers()
                self.status = self._status()
            self._frame(self._headers())
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def read1(self, size: int) -> bytes:
        """Some of the body, at most *size* bytes; empty at its end.

        Raises:
            BrokenOff: The body ends before its end.
            NotHttp: What separates its chunks is not what it has to be.
            OSError: The connection fails.
        """
        if self._left == 0 and self._chunked:
            self._left = self._chunk()
        if self._left == 0:
            return b""
        data = self._file.read1(size if self._left is None else min(size, self._left))
        if self._left is not None:
            if not data:
                raise BrokenOff
            self._left -= len(data)
            if self._left == 0 and self._chunked:
                self._line()
        return data

    def _frame(self, headers: dict[str, str]) -> None:
        """How the body ends: after the last chunk, after so many bytes, or with the connection."""
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length", "")
        if self._chunked or self.status in _WITHOUT_BODY:
            self._left = 0
        elif length.isascii() and length.isdigit():
            if len(length) > _MOST_DIGITS:
                raise NotHttp
            self._left = int(length)

    def _chunk(self) -> int:
        """The size of the next chunk; 0 after the last."""
        digits = self._line().partition(b";")[0].strip()
        if not digits or not _HEXADECIMAL.issuperset(digits) or len(digits) >= _MOST_DIGITS:
            raise BrokenOff
        size = int(digits, 16)
        if size == 0:
            self._chunked = False
            self._headers()
        return size

    def _status(self) -> int:
        line = self._line()
        words = line.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise NotHttp
        if len(words[1]) != len("200"):
            raise NotHttp
        return int(words[1])

    def _headers(self) -> dict[str, str]:
        """By name in small letters; of several with one name, the first."""
        found: dict[str, str] = {}
        for _ in range(MAX_HEADERS + 1):
            line = self._line()
            if line in (b"\r\n", b"\n"):
                return found
            name, _, value = line.decode("latin-1").partition(":")
            found.setdefault(name.strip().lower(), value.strip())
        raise NotHttp

    def _line(self) -> bytes:
        line = self._file.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise NotHttp
        if not line.endswith(b"\n"):
            raise BrokenOff
        return line


def get(
    path: str, sock: DeadlineSocket, target: str, connected: Callable[[DeadlineSocket], None]
) -> Answer:
    """Connect *sock* to the socket *path*, and ask for *target*; *connected* gets the socket before
    anything is sent.

    Raises:
        NotHttp: The answer is none.
        BrokenOff: There is none.
        OSError: The connection fails.
        ValueError: *target* is not quoted.
    """
    sock.connect_to(path)
    connected(sock)
    return Answer(sock, target)
