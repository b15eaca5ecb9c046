"""What the clients of all engines share: a thread that stays connected to its engine.

A client implements one connection, from the first call to its end. Here is the rest: waiting with
growing pauses for an engine that is absent or went away, saying so once, and stopping at once,
whatever call is under way.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Protocol

from ig_py.containers.engines.config import EngineConfig, why_missing
from ig_py.containers.engines.pace import Pace
from ig_py.containers.model import Container
from ig_py.containers.speakers import NOBODY, Speaker, listener_of_socket
from ig_py.errors import ContainerError
from ig_py.host.appearance import wait_for_path
from ig_py.host.latch import Latch

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.1
MAX_PAUSE = 2.0
MAX_STATE_ROOTS = 64
"""That an engine may name."""
MAX_ABSENCE = 600.0
"""Seconds after which a socket that is missing is looked for even where no directory changed."""
JOIN_SECONDS = 1.0
USER_JOIN_SECONDS = 0.1
"""For the engine of a user, which may not even accept connections."""


class EngineError(ContainerError):
    """The engine is absent, refuses, is too slow, or does not speak its protocol."""


class NoSuchObject(EngineError):
    """The engine has no such container or image."""


class NoAnswer(EngineError):
    """The engine is there, and too slow."""


class EngineSink(Protocol):
    """What clients report to: the discovery. Every method may be called from any thread."""

    def describe(self, container: Container) -> None:
        """A container exists, running or not: what the engine knows of it but its process."""

    def ignore(self, container_id: str) -> None:
        """It is a pod's sandbox, which only holds the pod's namespaces."""

    def started(self, container: Container, pid: int) -> None:
        """A container runs, with *pid* as its init."""

    def renamed(self, container_id: str, name: str) -> None: ...

    def died(self, container_id: str) -> None:
        """The engine says that the container's init ended."""

    def forget(self, container_id: str) -> None:
        """The engine has deleted the container."""

    def find_init(self, container_id: str) -> int | None:
        """Pid of the container's init, where its control group leaves no doubt."""

    def live(self, container_id: str) -> bool:
        """Whether it is in the collection, its init runs, and an engine has described it: what
        runtimes and processes told before does not count."""

    def owns(self, container_id: str, pid: int, asked: float) -> bool:
        """Whether *pid* was not reused since the engine was asked, at *asked* (seconds since boot):
        it is in a cgroup named by the container, or is of a process that began before."""

    def serving(self, engine: str, pid: int) -> None:
        """The engine of that name answers; its process, or that which listens for it, is *pid*."""

    def state_root(self, root: str, runtime: str, pid: int) -> None:
        """Below *root* is the state of containers (``state_roots``), as the process *pid* sees the
        files. *runtime*: the engine, or the runtime."""


class EngineClient:
    """One engine. Its own class implements :meth:`serve` and :meth:`abort`.

    ``error``: why the engine does not answer; "" when it does, or was not asked yet. ``missed``:
    containers that a listing found and no event had told of. ``speaker``: whose engine it is; until
    it is asked, what its path says.
    """

    name = ""

    def __init__(self, config: EngineConfig, sink: EngineSink) -> None:
        self.missed = 0
        self.config = config
        self.socket_path = config.socket_path
        self.error = ""
        self.speaker = Speaker(config.user)
        self._sink = sink
        self._running: set[str] = set()
        self._state_roots: set[str] = set()
        self._pid = 0
        self._listed = threading.Event()
        self._stopping = threading.Event()
        self._wake: Latch | None = None
        self._connected = False
        self._complained = False
        self._losses = 0
        self._pace = Pace()
        self._awaited = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"ig-{self.name}", daemon=True)

    def serve(self) -> None:
        """Use one connection to the engine, until it ends.

        Raises:
            EngineError: Always, with the reason of the end.
        """
        raise NotImplementedError

    def abort(self) -> None:
        """End what :meth:`serve` waits for; any thread, any time."""
        raise NotImplementedError

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def listed(self) -> bool:
        """Whether the first listing is reported, or the engine is known not to answer."""
        return self._listed.is_set()

    @property
    def containers(self) -> int:
        """How many containers run, as far as the engine said."""
        return len(self._running)

    def start(self) -> None:
        self._thread.start()

    def wait_listed(self, seconds: float) -> bool:
        """Wait until the containers of the first listing are reported, or the engine is known
        not to answer; False when *seconds* were not enough."""
        listed = self._listed.wait(seconds)
        # The caller warns of an engine that is slow to answer: its answer is worth a message.
        self._awaited |= not listed
        return listed

    def stop(self) -> None:
        """End the thread; returns within about a second."""
        self.cancel()
        self.join(JOIN_SECONDS)

    def cancel(self) -> None:
        """Begin to end the thread; returns at once."""
        self._stopping.set()
        wake = self._wake
        if wake is not None:
            wake.set()
        self.abort()

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended, after :meth:`cancel`; the process does not wait for
        it."""
        if not self.speaker.is_root:
            seconds = min(seconds, USER_JOIN_SECONDS)
        if self._thread.ident is not None:
            self._thread.join(seconds)
        if self._thread.is_alive() and self.speaker.is_root:
            log.warning("the %s client did not stop in %s s", self.name, JOIN_SECONDS)

    def fail(self, what: str, why: str) -> EngineError:
        """The error of a call *what* to this engine."""
        return EngineError(f"{self.name} engine {self.socket_path!a}: {what}: {why}")

    def ready(self) -> None:
        """The first listing was reported."""
        # Before ``_awaited`` is read: wait_listed() sets that and its caller then asks
        # ``connected``, so that one of both says that the engine answers.
        self._connected = True
        if self._complained or self._awaited:
            level = logging.INFO if self._tells(1) else logging.DEBUG
            log.log(level, "%s engine %a answers", self.name, self.socket_path)
        self.error = ""
        self._listed.set()
        self._sink.serving(self.name, self._pid)

    def rest(self) -> None:
        """The engine of a user takes a share of a processor only: wait for as long as that takes
        after what was done for it. In the client's thread."""
        if not self.speaker.is_root and (seconds := self._pace.due()):
            self._stopping.wait(seconds)

    def report_state_root(self, root: str, runtime: str) -> None:
        """Once for each *root* and connection."""
        if root not in self._state_roots and len(self._state_roots) < MAX_STATE_ROOTS:
            self._state_roots.add(root)
            self._sink.state_root(root, runtime, self._pid)

    def report_started(self, container: Container, pid: int) -> None:
        self._running.add(container.id)
        self._sink.started(container, pid)

    def report_died(self, container_id: str) -> None:
        self._running.discard(container_id)
        self._sink.died(container_id)

    def report_forgotten(self, container_id: str) -> None:
        self._running.discard(container_id)
        self._sink.forget(container_id)

    def report_running(self, container_ids: set[str]) -> None:
        """The ids of all that run now: others that this client reported earlier have ended."""
        for container_id in self._running - container_ids:
            self._sink.died(container_id)
        self._running = set(container_ids)

    def _run(self) -> None:
        self._pace = Pace()
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            was_connected = False
            try:
                if why := why_missing(self.socket_path):
                    raise EngineError(f"{self.name} engine {self.socket_path!a}: {why}")
                self._find_speaker()
                self.serve()
            except Exception as error:
                was_connected = self._connected
                self._lost(error)
            self._listed.set()
            # A user's engine may accept and end connections as fast as it can.
            at_once = was_connected and self.speaker.is_root
            pause = FIRST_PAUSE if at_once else min(pause * 2, MAX_PAUSE)
            self._pause(pause)
            self.rest()

    def _pause(self, seconds: float) -> None:
        """Wait before the next try: for the socket, where it is missing, else for *seconds*."""
        path = self.socket_path
        if self.config.user is None and path.startswith("/") and not os.path.lexists(path):
            wake = self._wake = Latch()
            # cancel() stops first and wakes then: one of both is seen.
            if not self._stopping.is_set():
                try:
                    wait_for_path(path, wake.fileno(), MAX_ABSENCE)
                except OSError as error:
                    log.debug("%a cannot be watched: %s", path, error)
                else:
                    seconds = 0
            self._wake = None
        self._stopping.wait(seconds)

    def _find_speaker(self) -> None:
        """Learn whose engine it is.

        Raises:
            EngineError: that is not known, or it is not the user whom the path says.
        """
        try:
            found, self._pid = listener_of_socket(self.socket_path)
        except OSError as error:
            why = error.strerror or str(error)
            raise EngineError(f"{self.name} engine {self.socket_path!a}: {why}") from error
        if found == NOBODY:
            raise self.fail("connecting", "its socket and its process are of different users")
        if found != Speaker(self.config.user) and not self.config.explicit:
            raise self.fail("connecting", f"its socket is {found}'s, not {self.speaker}'s")
        self.speaker = found
        self._state_roots.clear()

    def _lost(self, error: Exception) -> None:
        if self._stopping.is_set():
            return
        reason = str(error)
        if not isinstance(error, ContainerError):
            reason = f"{self.name} engine {self.socket_path!a}: {type(error).__name__}: {error}"
            log.debug("%s", reason, exc_info=error)
        self.error = reason
        if self._connected:
            level = logging.WARNING if self._tells(0) else logging.DEBUG
            log.log(level, "%s; waiting for it to come back", reason)
            self._losses += 1
        elif not self._complained:
            level = logging.WARNING if self.config.explicit else logging.DEBUG
            log.log(level, "%s; waiting for it", reason)
        else:
            log.debug("%s", reason)
        self._complained = True
        self._connected = False

    def _tells(self, losses: int) -> bool:
        """Whether the user is told of a change: the engine of another user could make as many
        messages as it likes."""
        return self.speaker.is_root or self._losses <= losses
