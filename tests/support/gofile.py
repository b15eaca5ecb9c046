"""A named pipe that a container waits on before its first exec."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from support.waiting import wait_for

INSIDE = "/go"


def waiting_command(commands: str) -> list[str]:
    """A container's command that runs the shell *commands* once :func:`give` says so.

    Waiting is a shell built-in: nothing is executed before.
    """
    return ["/bin/sh", "-c", f"read word <{INSIDE}/pipe; {commands}"]


def make(directory: Path) -> dict[str, dict[str, str]]:
    """Make the pipe in *directory*; the ``volumes`` of a container that waits on it."""
    directory.mkdir(parents=True, exist_ok=True)
    os.mkfifo(directory / "pipe")
    return {str(directory): {"bind": INSIDE, "mode": "ro"}}


def give(directory: Path, seconds: float = 30) -> None:
    """Let the container go; TimeoutError when it never waits."""

    def opened() -> int | None:
        try:
            return os.open(directory / "pipe", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            # ENXIO: nobody reads yet.
            if error.errno == errno.ENXIO:
                return None
            raise

    descriptor = wait_for(opened, "the container waits for its go", seconds)
    try:
        os.write(descriptor, b"go\n")
    finally:
        os.close(descriptor)
