"""What the clients of all engines share: a thread that follows its engine for as long as it takes.

A client implements one connection, from the first call to its end. Here is
the rest: waiting for an engine that is absent or went away, with growing
pauses; saying so once; stopping at once whatever is under way.
"""

from __future__ import annotations

import logging
import threading

from ig_py.containers.engines.client import RuntimeConfig, Sink, why_missing
from ig_py.containers.model import Container
from ig_py.errors import ContainerError

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.1
MAX_PAUSE = 2.0
JOIN_SECONDS = 1.0


class EngineError(ContainerError):
    """The engine is absent, refuses, is too slow, or does not speak its protocol."""


class NoSuchObject(EngineError):
    """The engine has no such container or image."""


class NoAnswer(EngineError):
    """The engine is there, and too slow."""


class EngineClient:
    """All of a RuntimeClient (``client.py``) but :meth:`serve` and :meth:`abort`.

    ``containers`` counts those that it said to run; ``error`` is the last
    failure, "" while connected.
    """

    name = ""

    def __init__(self, config: RuntimeConfig, sink: Sink) -> None:
        self.config = config
        self.socket_path = config.socket_path
        self.error = ""
        self._sink = sink
        self._running: set[str] = set()
        self._listed = threading.Event()
        self._stopping = threading.Event()
        self._connected = False
        self._complained = False
        self._awaited = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"ig-{self.name}", daemon=True)

    def serve(self) -> None:
        """One connection to the engine, until it ends. :raises EngineError: always."""
        raise NotImplementedError

    def abort(self) -> None:
        """End what :meth:`serve` waits for; any thread, any time."""
        raise NotImplementedError

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def containers(self) -> int:
        return len(self._running)

    def start(self) -> None:
        self._thread.start()

    def wait_listed(self, seconds: float) -> bool:
        listed = self._listed.wait(seconds)
        # Who waits in vain says so, and then the answer is news.
        self._awaited |= not listed
        return listed

    def stop(self) -> None:
        self._stopping.set()
        self.abort()
        if self._thread.ident is not None:
            self._thread.join(JOIN_SECONDS)
        if self._thread.is_alive():
            log.warning("the %s client did not stop in %s s", self.name, JOIN_SECONDS)

    def fail(self, what: str, why: str) -> EngineError:
        """The error of a call *what* to this engine."""
        return EngineError(f"{self.name} engine {self.socket_path!a}: {what}: {why}")

    def ready(self) -> None:
        """The first listing was reported."""
        # Before the question: who has waited in vain asks the other way round.
        self._connected = True
        if self._complained or self._awaited:
            log.info("%s engine %a answers", self.name, self.socket_path)
        self.error = ""
        self._listed.set()

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
        """All that run now: others that this client reported earlier are gone."""
        for container_id in self._running - container_ids:
            self._sink.died(container_id)
        self._running = set(container_ids)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            was_connected = False
            try:
                if why := why_missing(self.socket_path):
                    raise EngineError(f"{self.name} engine {self.socket_path!a}: {why}")
                self.serve()
            except Exception as error:
                was_connected = self._connected
                self._lost(error)
            self._listed.set()
            pause = FIRST_PAUSE if was_connected else min(pause * 2, MAX_PAUSE)
            self._stopping.wait(pause)

    def _lost(self, error: Exception) -> None:
        if self._stopping.is_set():
            return
        reason = str(error)
        if not isinstance(error, ContainerError):
            reason = f"{self.name} engine {self.socket_path!a}: {type(error).__name__}: {error}"
            log.debug("%s", reason, exc_info=error)
        self.error = reason
        if self._connected:
            log.warning("%s; waiting for it to come back", reason)
        elif not self._complained:
            level = logging.WARNING if self.config.explicit else logging.DEBUG
            log.log(level, "%s; waiting for it", reason)
        else:
            log.debug("%s", reason)
        self._complained = True
        self._connected = False
