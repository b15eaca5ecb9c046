"""The programs that make containers, and their executions as a source of its own.

A runtime that begins to make a container says so on its command line. Nothing is decided by
that: it is a second opinion, counted where it disagrees with what the other sources found.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ig_py.containers.collection import Event, EventType
from ig_py.containers.identify import MAX_ARGUMENTS, from_command
from ig_py.errors import ContainerError
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor

if TYPE_CHECKING:
    from ig_py._core import ExecWatch

log = logging.getLogger(__name__)

PATHS = (
    *("/bin/runc", "/usr/bin/runc", "/usr/sbin/runc"),
    *("/usr/local/bin/runc", "/usr/local/sbin/runc"),
    *("/usr/bin/crun", "/usr/local/bin/crun"),
    *("/usr/libexec/crio/runc", "/usr/libexec/crio/crun", "/usr/lib/cri-o-runc/sbin/runc"),
    *("/var/lib/rancher/k3s/data/current/bin/runc", "/var/lib/rancher/rke2/bin/runc"),
    *("/var/lib/k0s/bin/runc", "/snap/microk8s/current/bin/runc"),
    "/aarch64-bottlerocket-linux-gnu/sys-root/usr/bin/runc",
    "/x86_64-bottlerocket-linux-gnu/sys-root/usr/bin/runc",
)
"""Where distributions have runtimes (those that ig watches, but for conmon)."""
VARIABLE = "RUNTIME_PATH"
"""Environment variable with other paths instead, separated by colons."""
LOOK_AGAIN_SECONDS = 30.0
"""How often it is looked whether a runtime has come, or come anew."""
MAX_BEGUN = 4096
FRUITLESS_SECONDS = 15.0
"""After this a container that a runtime began is not expected any more."""
COMPARE_SECONDS = 1.0
_START, _TICKS = 19, os.sysconf("SC_CLK_TCK")
"""In /proc/PID/stat behind the name, and in what unit (proc(5))."""
_TRIES = 7
_TRY_SECONDS = 0.001
"""An execution is told before the new command line is in place; pauses double."""


def runtime_paths(view: HostView) -> list[str]:
    """Of the runtimes that are there, each file once."""
    given = os.environ.get(VARIABLE, "")
    found: dict[tuple[int, int], str] = {}
    for name in given.split(":") if given else PATHS:
        with contextlib.suppress(OSError, ContainerError):
            path = view.path(name)
            facts = Path(path).stat()
            found.setdefault((facts.st_dev, facts.st_ino), path)
    return list(found.values())


def keep_marked(
    view: HostView,
    reactor: Reactor,
    mark: Callable[[str], object],
    wanted: Callable[[], bool],
) -> None:
    """Have *mark* called with the runtimes that are there, now and then while *wanted*."""

    def again() -> None:
        if wanted():
            for path in runtime_paths(view):
                mark(path)
            reactor.later(LOOK_AGAIN_SECONDS, again)

    reactor.later(LOOK_AGAIN_SECONDS, again)


class RuntimeRuns:
    """Which containers runtimes were executed for. Callbacks come in the reactor's thread."""

    def __init__(self, view: HostView, reactor: Reactor) -> None:
        self._view = view
        self._reactor = reactor
        self._watch: ExecWatch | None = None
        self._why = "not started"
        self._since = 0.0
        self._names: set[str] = set()
        self._begun: dict[str, float] = {}
        self._came: dict[str, None] = {}
        self.unbegun = 0
        """Containers that came without a runtime that was seen to be executed."""
        self.fruitless = 0
        """Containers that a runtime began and that never came: it failed, or all missed them."""

    def start(self) -> None:
        """Never fails: it is one source of several."""
        if not self._view.same_pidns:
            self._why = "/proc is of another pid namespace"
            return
        paths = runtime_paths(self._view)
        self._names = {PurePosixPath(path).name for path in paths}
        try:
            from ig_py._core import ExecWatch

            self._watch = ExecWatch(paths)
        except (ImportError, OSError) as error:
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
        """Whether it works; where it looks, or why not."""
        if self._watch is None:
            return False, self._why
        marked = self._watch.marked
        return bool(marked), ", ".join(marked) or "no runtime is where they usually are"

    def changed(self, event: Event) -> None:
        """A subscriber of the collection."""
        if event.type is not EventType.CREATED:
            return
        container = event.container
        self._reactor.soon(lambda: self._come(container.id))
        if self._born(container.runtime.pid) > self._since:
            # Its runtime's execution may still be on the way here.
            self._reactor.later(COMPARE_SECONDS, lambda: self._compare(container.id))

    def _born(self, pid: int) -> float:
        """When the process began, in seconds since the machine did; 0 when it is gone."""
        fields = self._view.read(pid, "stat").rpartition(")")[2].split()
        return int(fields[_START]) / _TICKS if len(fields) > _START else 0.0

    # The reactor's thread.

    def _read(self) -> None:
        if self._watch is None:
            return
        for pid in self._watch.read():
            if pid > 0:
                self._look(pid, 0)

    def _look(self, pid: int, tried: int) -> None:
        argv = self._view.read(pid, "cmdline").split("\0")[:MAX_ARGUMENTS]
        if found := from_command(argv):
            self._begin(found.container_id)
        elif tried < _TRIES and PurePosixPath(argv[0]).name not in self._names:
            self._reactor.later(_TRY_SECONDS * 2**tried, lambda: self._look(pid, tried + 1))

    def _begin(self, container_id: str) -> None:
        while len(self._begun) >= MAX_BEGUN:
            del self._begun[next(iter(self._begun))]
        if container_id in self._begun:
            return
        self._begun[container_id] = time.monotonic()
        self._reactor.later(FRUITLESS_SECONDS, lambda: self._give_up(container_id))

    def _give_up(self, container_id: str) -> None:
        if self._begun.pop(container_id, None) is not None:
            self.fruitless += container_id not in self._came
        self._came.pop(container_id, None)

    def _come(self, container_id: str) -> None:
        while len(self._came) >= MAX_BEGUN:
            del self._came[next(iter(self._came))]
        self._came[container_id] = None

    def _compare(self, container_id: str) -> None:
        self.unbegun += container_id not in self._begun

    def _mark(self, path: str) -> None:
        # The watch itself goes to nobody: it ends with the last who has it.
        if self._watch is not None:
            self._watch.mark(path)
