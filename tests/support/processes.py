"""Child processes: started with a log, watched until they are ready, ended by their id."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from support.waiting import deadline, wait_for

_TAIL_LINES = 8


class StartError(Exception):
    """A program did not become ready; the message ends with the last lines of its log."""


class ProgramError(subprocess.CalledProcessError):
    """A program ended with another status than 0; the message ends with what it said."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{_last_lines(self.stderr)}"


def output(argv: Sequence[str], seconds: float = 60) -> str:
    """What *argv* prints on its standard output, its input being empty.

    Raises ProgramError, and TimeoutExpired after *seconds*.
    """
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=deadline(seconds),
        check=False,
    )
    if done.returncode:
        raise ProgramError(done.returncode, argv, done.stdout, done.stderr)
    return done.stdout


def free_port() -> int:
    """A TCP port of the loopback address that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tail(log: Path) -> str:
    """The last lines of *log*."""
    return _last_lines(log.read_text(errors="replace"))


def _last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-_TAIL_LINES:])


def end(process: subprocess.Popen[bytes], seconds: float = 15) -> int:
    """Ask *process* to end, insist after *seconds*; its exit status."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(deadline(seconds))
    return process.wait()


@contextlib.contextmanager
def running(
    argv: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    *,
    seconds: float = 30,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """*argv* as long as the block runs, entered when *ready* says so.

    Raises StartError when it ends early or is not ready within *seconds*.
    """
    with log.open("wb") as sink:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )

    def settled() -> bool:
        return process.poll() is not None or ready()

    try:
        try:
            wait_for(settled, f"{argv[0]} ready", seconds)
        except TimeoutError as error:
            raise StartError(f"{error}\n{tail(log)}") from error
        if process.poll() is not None:
            raise StartError(f"{argv[0]} ended with {process.returncode}\n{tail(log)}")
        yield process
    finally:
        end(process)
