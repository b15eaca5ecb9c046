"""Executions of container runtimes, as a second opinion about which containers are created.

A runtime that begins to create a container names it on its command line. Nothing is decided by
that: it is counted where it disagrees with what the other sources found.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ig_py.containers.collection import Event, EventType
from ig_py.containers.identify import MAX_ARGUMENTS, from_command
from ig_py.containers.runtime_paths import keep_marked, runtime_paths
from ig_py.host.files import HostReadError
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor

if TYPE_CHECKING:
    from ig_py._core import ExecWatch

log = logging.getLogger(__name__)

MAX_BEGUN = 4096
BEGUN_SECONDS = 15.0
"""After this a container that a runtime began is not expected any more."""
COMPARE_SECONDS = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")
_TRIES = 7
_TRY_SECONDS = 0.001
"""fanotify tells of an execution before the new command line is in /proc; pauses double."""


class RuntimeExecutions:
    """Which containers runtimes were executed for, by fanotify on the runtimes' files (only told,
    never held). Works in the reactor's thread."""

    def __init__(
        self,
        view: HostView,
        reactor: Reactor,
        begun: Callable[[int, str], None] | None = None,
    ) -> None:
        """*begun* is called with the runtime's pid and the container's id."""
        self._begun_by = begun
        self._view = view
        self._reactor = reactor
        self._watch: ExecWatch | None = None
        self._why = "not started"
        self._since = 0.0
        self._names: set[str] = set()
        self._begun: dict[str, float] = {}
        self._known: dict[str, None] = {}
        self.runtime_not_seen = 0
        """Containers that were created without a runtime that was seen to be executed."""
        self.begun_only = 0
        """Containers that a runtime began and no source found: it failed, or all missed them."""

    def start(self) -> None:
        """Begin to watch. Never fails: it is one source of several."""
        if not self._view.same_pidns:
            self._why = "/proc is of another pid namespace"
            return
        try:
            from ig_py._core import ExecWatch

            paths = runtime_paths(self._view)
            self._names = {PurePosixPath(path).name for path in paths}
            self._watch = ExecWatch(paths)
        except (ImportError, OSError, HostReadError) as error:
            self._why = f"fanotify: {error}"
            return
        self._since = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._reactor.watch(self._watch.fileno(), self._read)
        keep_marked(self._view, self._reactor, self._mark, lambda: self._watch is not None)

    def stop(self) -> None:
        """After the reactor stopped."""
        self._watch = None
        self._why = "stopped"

    def status(self) -> tuple[bool, str]:
        """Whether executions are watched; of which files, or why not."""
        if self._watch is None:
            return False, self._why
        marked = self._watch.marked
        return bool(marked), ", ".join(marked) or "no runtime is where they usually are"

    def changed(self, event: Event) -> None:
        """A subscriber of the collection."""
        if event.type is not EventType.CREATED:
            return
        container = event.container
        self._reactor.soon(lambda: self._created(container.id))
        if self._born(container.runtime.pid) > self._since:
            # The execution of its runtime may not have been read yet.
            self._reactor.later(COMPARE_SECONDS, lambda: self._compare(container.id))

    def _born(self, pid: int) -> float:
        """When the process began, in seconds since boot; 0 when it has ended."""
        try:
            return self._view.born(pid) / _TICKS
        except HostReadError:
            # A second opinion only: what is not known is not compared.
            return 0.0

    # The reactor's thread.

    def _read(self) -> None:
        if self._watch is None:
            return
        for pid in self._watch.read():
            if pid > 0:
                self._look(pid, 0)

    def _look(self, pid: int, tried: int) -> None:
        try:
            argv = self._view.read(pid, "cmdline").split("\0")[:MAX_ARGUMENTS]
        except HostReadError as error:
            self._view.failures.add(error)
            return
        if found := from_command(argv):
            self._begin(found.container_id)
            if self._begun_by is not None:
                try:
                    self._begun_by(pid, found.container_id)
                except HostReadError as error:
                    self._view.failures.add(error)
        elif tried < _TRIES and PurePosixPath(argv[0]).name not in self._names:
            self._reactor.later(_TRY_SECONDS * 2**tried, lambda: self._look(pid, tried + 1))

    def _begin(self, container_id: str) -> None:
        while len(self._begun) >= MAX_BEGUN:
            del self._begun[next(iter(self._begun))]
        if container_id in self._begun:
            return
        self._begun[container_id] = time.monotonic()
        self._reactor.later(BEGUN_SECONDS, lambda: self._give_up(container_id))

    def _give_up(self, container_id: str) -> None:
        if self._begun.pop(container_id, None) is not None:
            self.begun_only += container_id not in self._known
        self._known.pop(container_id, None)

    def _created(self, container_id: str) -> None:
        while len(self._known) >= MAX_BEGUN:
            del self._known[next(iter(self._known))]
        self._known[container_id] = None

    def _compare(self, container_id: str) -> None:
        self.runtime_not_seen += container_id not in self._begun

    def _mark(self, path: str) -> None:
        # keep_marked() is not given the watch itself: dropping ``_watch`` closes its descriptor.
        if self._watch is not None:
            self._watch.mark(path)
