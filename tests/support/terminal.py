"""A program on a pseudo-terminal, with typed input."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from support.waiting import deadline

_SECONDS = 30


class Terminal:
    """*shown*: everything that the program has written so far."""

    def __init__(self, pid: int, fd: int) -> None:
        self._pid, self._fd = pid, fd
        self._status: int | None = None
        self.shown = ""
        self._seen = 0

    def expect(self, text: str) -> None:
        """Wait until *text* is shown, after what was expected before.

        TimeoutError, with what was shown.
        """
        end = time.monotonic() + deadline(_SECONDS)
        while (at := self.shown.find(text, self._seen)) < 0:
            if not self._read(end):
                raise TimeoutError(f"{text!r} is not in {self.shown!r}")
        self._seen = at + len(text)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    @property
    def echoes(self) -> bool:
        """Is what is typed shown?"""
        return bool(termios.tcgetattr(self._fd)[3] & termios.ECHO)

    def status(self) -> int:
        """Exit code, when the program has ended."""
        end = time.monotonic() + deadline(_SECONDS)
        while self._read(end):
            pass
        _, status = os.waitpid(self._pid, 0)
        self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def close(self) -> None:
        if self._status is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise TimeoutError(f"nothing more after {self.shown!r}")
        try:
            data = os.read(self._fd, 4096)
        except OSError:
            # The peer is closed.
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@contextmanager
def ig_py(*argv: str, **environment: str) -> Iterator[Terminal]:
    """``ig-py ARGV`` on a terminal, with no password in its environment but *environment*."""
    start = "import ig_py.cli as cli; raise SystemExit(cli.main())"
    command = [sys.executable, "-P", "-c", start, *argv]
    whole = {k: v for k, v in os.environ.items() if k != "COSIGN_PASSWORD"} | environment
    pid, fd = pty.fork()
    if pid == 0:
        with suppress(BaseException):
            os.execve(command[0], command, whole)
        os._exit(127)
    terminal = Terminal(pid, fd)
    try:
        yield terminal
    finally:
        terminal.close()
