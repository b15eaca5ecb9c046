"""Waiting for changes of files, without looking at them again and again (inotify(7)).

Only for paths that root alone can change: the lookup of a path in a user's directory may never
return.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterable

from ig_py.host.inotify import (
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    Inotify,
)

_CHANGES = (
    IN_ATTRIB
    | IN_CLOSE_WRITE
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
    | IN_MOVED_FROM
    | IN_MOVED_TO
)


class FileChanges:
    """What is watched, and the wait for its changes.

    Raises:
        OSError: The user has too many inotify instances or descriptors.
    """

    def __init__(self) -> None:
        self._inotify = Inotify()

    def watch(self, paths: Iterable[str]) -> bool:
        """Watch files, and directories for what comes and goes in them; those that are watched
        already stay so. False: one exists and cannot be watched."""
        complete = True
        for path in paths:
            try:
                self._inotify.add(path, _CHANGES)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                complete = False
        return complete

    def wait(self, wake: int, seconds: float) -> None:
        """Wait at most *seconds* for a change, or until the descriptor *wake* is readable."""
        poll = select.poll()
        for fd in (self._inotify.fd, wake):
            poll.register(fd, select.POLLIN)
        poll.poll(seconds * 1000)
        with contextlib.suppress(OSError):
            for _ in self._inotify.read():
                pass

    def close(self) -> None:
        self._inotify.close()
