"""A workload that starts on a signal: it waits for a word in a named pipe, or has a
heartbeat until a file is there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from support.waiting import wait_for

INSIDE = "/go"


def waiting_command(commands: str) -> list[str]:
    """A container's command that runs the shell *commands* after :func:`send`.

    Waiting is a shell built-in: nothing is executed before.
    """
    return ["/bin/sh", "-c", f"read word <{INSIDE}/pipe; {commands}"]


HEARTBEAT = "ig-py-heartbeat"
_GO = "go-file"


def with_heartbeat(commands: str, programs: str = "/bin", directory: str = INSIDE) -> str:
    """A shell script that executes and opens ``directory/HEARTBEAT`` every second
    until :func:`stop_heartbeat`, then runs *commands*: a tool that shows a heartbeat is watching.

    ``directory/HEARTBEAT`` is made by :func:`make_script`.
    """
    heartbeat = f"{programs}/sleep 1; {directory}/{HEARTBEAT}"
    return f"until [ -e {directory}/{_GO} ]; do {heartbeat}; done; {commands}"


def make_script(path: Path, programs: str = "/bin") -> None:
    """An executable at *path* that only opens itself, by the cat in *programs*.

    The kernel names the process after the script: its name is in events whose gadget does not
    record arguments, too.
    """
    path.write_text(f"#!{programs}/cat\n")
    path.chmod(0o755)


def stop_heartbeat(directory: Path) -> None:
    """End the heartbeat of the workload that sees *directory*."""
    (directory / _GO).touch()


def make(directory: Path) -> dict[str, dict[str, str]]:
    """Make the pipe in *directory*; the ``volumes`` of a container that waits on it."""
    directory.mkdir(parents=True, exist_ok=True)
    os.mkfifo(directory / "pipe")
    return {str(directory): {"bind": INSIDE, "mode": "ro"}}


def send(directory: Path, seconds: float = 30) -> None:
    """Let the container's commands start; TimeoutError when it never waits."""

    def opened() -> int | None:
        try:
            return os.open(directory / "pipe", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            # ENXIO: no process has opened the pipe for reading yet.
            if error.errno == errno.ENXIO:
                return None
            raise

    descriptor = wait_for(opened, "the container waits for the signal", seconds)
    try:
        os.write(descriptor, b"go\n")
    finally:
        os.close(descriptor)
