"""Waiting for a file that does not exist yet, without looking for it again and again.

A directory above it is watched (inotify(7)): the nearest that exists. Only for paths that root
alone can change: the lookup of a path in a user's directory may never return.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path

from ig_py.host.inotify import (
    IN_CREATE,
    IN_DELETE_SELF,
    IN_MOVE_SELF,
    IN_MOVED_TO,
    IN_ONLYDIR,
    Inotify,
)

_CHANGES = IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
_LEAST_SECONDS = 0.1
"""Between two looks, however often other files come in the directory."""


def wait_for_path(path: str, wake: int, seconds: float) -> bool:
    """Wait at most *seconds* until *path* exists, or the descriptor *wake* is readable; whether it
    exists.

    Raises:
        OSError: A directory cannot be watched: the user has too many watches or instances.
    """
    end = time.monotonic() + seconds
    watch = Inotify()
    try:
        while not os.path.lexists(path):
            _watch_above(watch, path)
            # What came before the watch was there causes no event.
            if os.path.lexists(path):
                return True
            left = end - time.monotonic()
            if left <= 0 or _wakes([watch.fd, wake], wake, left):
                return os.path.lexists(path)
            for _ in watch.read():
                pass
            if _wakes([wake], wake, min(_LEAST_SECONDS, max(0.0, end - time.monotonic()))):
                return os.path.lexists(path)
        return True
    finally:
        watch.close()


def _wakes(fds: list[int], wake: int, seconds: float) -> bool:
    """Wait for one of *fds* to be readable; whether *wake* is."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return any(fd == wake for fd, _ in poll.poll(seconds * 1000))


def _watch_above(watch: Inotify, path: str) -> None:
    for directory in Path(path).parents:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            watch.add(str(directory), _CHANGES)
            return
