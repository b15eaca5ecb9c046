"""--hold-containers: a runtime that starts a container waits until programs are attached to it.

Engines create a container in two steps (``runc create``, ``runc start``), of which the second one
lets its first program begin. Each is an execution of a runtime. That of the second step waits here
until its container is identified and everything is attached to it, and never longer than the
deadline: a process of its own answers the kernel (docs/discovery.md#holding-runtimes). What is
attached to other containers meanwhile is not waited for.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from ig_py.containers.identify import started_by
from ig_py.containers.runtime_paths import VARIABLE, keep_marked, runtime_paths
from ig_py.containers.speakers import Speaker, speaker_of_process
from ig_py.containers.targets import Awaited
from ig_py.errors import ContainerError
from ig_py.host.credentials import credentials
from ig_py.host.executing import arguments_to_execute
from ig_py.host.files import HostReadError
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor
from ig_py.records import dataclass

if TYPE_CHECKING:
    from ig_py._core import ExecHold

log = logging.getLogger(__name__)

MAX_SECONDS = 10.0
"""No runtime is ever held longer. An engine that waits for its runtime waits longer than that."""
MAX_READERS_OF_USER = 2
MAX_READERS = 16
"""Threads that read the arguments of users' processes; a process without one is not held."""
MAX_HELD_OF_USER = 4
MAX_HELD_OF_USERS = 32
"""Executions of users' runtimes that wait at the same time; further ones go on at once. Twice as
many can wait in all (MAX_WAITING in core/src/exec_hold/ledger.rs): users leave room for root's."""
MAX_WARNINGS = 10
"""Containers that are named which started too early; the others are counted."""

USER_READ_SECONDS = 0.5
"""How long the arguments of a user's process are waited for."""
USER_PART = 0.75
"""Part of the deadline that users' executions wait. Of a tracer that lets deadlines pass (a second
for what it does not answer at all) nothing is held any more, root's executions neither."""

Barrier = Callable[[Awaited, Callable[[], None]], None]
"""Calls its second argument, from any thread, once these containers are known and attached to, as
far as they can be."""


@dataclass(frozen=True, slots=True)
class _Held:
    """An execution of *speaker* (None: of root, or not known) that waits: for that container, or,
    None, for all that are known to be made."""

    container_id: str | None
    speaker: Speaker | None

    @property
    def awaited(self) -> Awaited:
        return Awaited(self.container_id, of_root=self.speaker is None)


class RuntimeExecHold:
    """Holds from its construction to :meth:`close`. Works in the reactor's thread.

    *ready*: what has to be dealt with before an execution goes on. *seconds*: the deadline.

    Raises:
        ContainerError: The kernel does not allow it, or no runtime is found.
    """

    def __init__(
        self, view: HostView, reactor: Reactor, ready: Barrier, seconds: float = MAX_SECONDS
    ) -> None:
        self._view = view
        self._reactor = reactor
        self._ready = ready
        self._seconds = seconds
        self._held: dict[int, _Held] = {}
        self._readers: Counter[int | None] = Counter()
        self._reading: set[int] = set()
        self._late = 0
        self._late_of_users = 0
        self._closed = False
        paths = runtime_paths(view)
        if not paths:
            raise ContainerError(
                "--hold-containers: there is no runtime where they usually are",
                remedy=f"give its path by the environment variable {VARIABLE}",
            )
        self._hold = self._open(paths, seconds)
        self._fd = self._hold.fileno()
        reactor.watch(self._fd, self._read)
        keep_marked(view, reactor, self._mark, lambda: not self._closed)

    def _open(self, paths: list[str], seconds: float) -> ExecHold:
        from ig_py._core import CoreError, ExecHold

        try:
            return ExecHold(paths, seconds)
        except CoreError as error:
            raise ContainerError(
                f"--hold-containers: {error.message}",
                remedy="leave it out, or run with the rights (CAP_SYS_ADMIN) on a kernel with"
                " CONFIG_FANOTIFY_ACCESS_PERMISSIONS",
            ) from error

    def account(self) -> str:
        """One line: how many executions waited, how long, and how many to the deadline."""
        found = self._hold.counts()
        held = found["released"] + found["expired"]
        mean = found["waited"] / held / 1e6 if held else 0.0
        return (
            f"{held} runtimes held ({mean:.1f} ms in the mean, {found['longest'] / 1e6:.1f} ms at"
            f" most), {found['expired']} to the deadline; {found['passed']} not held"
        )

    def close(self) -> None:
        """Release every execution; the process that answers the kernel ends. Call it before the
        reactor stops."""
        self._closed = True
        self._reactor.unwatch(self._fd)
        found = self._hold.counts()
        if early := found["expired"] + found["passed"] + self._late_of_users:
            log.warning(
                "--hold-containers: %d of %d executions of container runtimes did not wait until"
                " programs were attached",
                early,
                found["expired"] + found["passed"] + found["released"],
            )
        self._hold.close()

    # The reactor's thread.

    def _read(self) -> None:
        from ig_py._core import CoreError

        try:
            requests = self._hold.requests()
        except CoreError as error:
            if not self._closed:
                log.warning("container runtimes are not held any more: %s", error.message)
            self._closed = True
            self._reactor.unwatch(self._fd)
            return
        for serial, pid in requests:
            self._ask(serial, pid)

    def _ask(self, serial: int, pid: int) -> None:
        """Hold the execution for the container that *pid* is about to start."""
        try:
            known = credentials(self._view.proc, pid) if self._view.same_pidns else None
        except HostReadError as error:
            log.debug("%s", error)
            known = None
        if known is None:
            self._hold_for(serial, _Held(None, None))
            return
        speaker = speaker_of_process(known)
        if speaker.is_root:
            self._hold_for(serial, _Held(self._started_by(pid), None))
        else:
            self._read_aside(serial, pid, speaker)

    def _started_by(self, pid: int) -> str | None:
        """The container that *pid* is about to start; "" when it does something else, None when
        that is not known."""
        words = arguments_to_execute(self._view.proc, pid)
        return None if words is None else started_by(words)

    def _read_aside(self, serial: int, pid: int, speaker: Speaker) -> None:
        """As for root's processes, by a thread: a user can make the reader of the memory of their
        process wait for ever."""

        def read() -> None:
            container_id = self._started_by(pid)

            def done() -> None:
                self._readers[speaker.user] -= 1
                if serial in self._reading:
                    self._reading.discard(serial)
                    self._hold_for(serial, _Held(container_id, speaker))

            self._reactor.soon(done)

        of_user = self._readers[speaker.user]
        if of_user >= MAX_READERS_OF_USER or self._readers.total() >= MAX_READERS:
            self._hold.release(serial)
            return
        self._readers[speaker.user] += 1
        self._reading.add(serial)
        part = USER_PART * self._seconds
        self._reactor.later(min(USER_READ_SECONDS, part), lambda: self._not_read(serial))
        self._reactor.later(part, lambda: self._too_late(serial))
        threading.Thread(target=read, name="ig-py-arguments", daemon=True).start()

    def _not_read(self, serial: int) -> None:
        if serial in self._reading and not self._closed:
            self._reading.discard(serial)
            self._late_of_users += 1
            self._hold.release(serial)

    def _hold_for(self, serial: int, held: _Held) -> None:
        if held.container_id == "" or self._too_many(held.speaker):
            self._hold.release(serial)
            return
        self._hold.take(serial)
        self._held[serial] = held
        if held.speaker is None:
            self._reactor.later(self._seconds, lambda: self._too_late(serial))
        self._ready(held.awaited, lambda: self._release(serial))

    def _too_many(self, speaker: Speaker | None) -> bool:
        if speaker is None:
            return False
        of_users = [h.speaker for h in list(self._held.values()) if h.speaker is not None]
        return of_users.count(speaker) >= MAX_HELD_OF_USER or len(of_users) >= MAX_HELD_OF_USERS

    def _too_late(self, serial: int) -> None:
        held = self._held.pop(serial, None)
        if held is None or self._closed:
            return
        container_id = held.container_id
        self._late += 1
        if held.speaker is not None:
            self._late_of_users += 1
            self._hold.release(serial)
        level = logging.WARNING if self._late <= MAX_WARNINGS else logging.DEBUG
        which = "a container" if container_id is None else f"container {container_id!a}"
        seconds, limit = self._seconds, "--hold-timeout"
        if held.speaker is not None:
            seconds, limit = USER_PART * seconds, f"for users {USER_PART:g} of --hold-timeout"
        log.log(
            level,
            "%s starts before all programs are attached to it: that takes longer than %g s (%s)",
            which,
            seconds,
            limit,
        )

    def _mark(self, path: str) -> None:
        from ig_py._core import CoreError

        with contextlib.suppress(CoreError):
            self._hold.mark(path)

    # Any thread.

    def _release(self, serial: int) -> None:
        self._held.pop(serial, None)
        self._hold.release(serial)
