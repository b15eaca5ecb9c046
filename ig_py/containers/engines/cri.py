"""The client of every engine that speaks the Kubernetes runtime interface (CRI).

Its stream of events is newer than the interface, and may be switched off: where there is none, the
engine is asked for its containers every second.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from ig_py.containers.engines import cri_parse as parse
from ig_py.containers.engines import state_roots
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.engines.engine import EngineError, EngineSink
from ig_py.containers.engines.grpc_engine import GrpcEngineClient, GrpcTransport, Subscription
from ig_py.containers.model import valid_id
from ig_py.host.proc import boot_seconds

if TYPE_CHECKING:
    from ig_py.containers.engines.cri_calls import Calls
    from ig_py.containers.engines.docker_http import DockerTransport
    from ig_py.containers.engines.protos import cri_pb2 as pb

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often an engine without events is asked."""
CHECK_SECONDS = 30.0
"""How often a listing checks what the events told."""
FIRST_CHECK = 0.5
MAX_FAILURES = 3
"""Containers of one listing whose status may fail before it is the engine that fails."""


class CriClient(GrpcEngineClient):
    """The engine at ``/run/crio/crio.sock``, or another one. ``polling``: it has no events."""

    def __init__(self, config: EngineConfig, sink: EngineSink) -> None:
        self.name = config.name
        super().__init__(config, sink, called=f"{self.name} (CRI)")
        self.polling = False
        self._http: DockerTransport | None = None
        self._known: set[str] = set()
        self._failures = 0

    def abort(self) -> None:
        super().abort()
        with self._lock:
            http = self._http
        if http:
            http.abort()

    def follow(self, transport: GrpcTransport) -> None:
        from ig_py.containers.engines.cri_calls import Calls

        self._follow(Calls(transport))

    def _follow(self, calls: Calls) -> None:
        program, version = calls.version()
        log.debug("%s %s at %a", program, version, self.socket_path)
        events: Subscription[pb.ContainerEvent] | None = calls.events()
        self.polling = False
        self._list(calls)
        self.ready()
        self._ask_state_roots(calls, program)
        check_at = time.monotonic() + FIRST_CHECK
        while not self._stopping.is_set():
            left = max(0.0, check_at - time.monotonic())
            dropped = False
            if events is None:
                self._stopping.wait(left)
            else:
                try:
                    if (event := events.get(left)) is not None:
                        self._handle(calls, event)
                    dropped = events.dropped()
                except EngineError as error:
                    # If the engine is gone, the next listing says so.
                    log.debug("%s", error)
                    events, self.polling, dropped = None, True, True
            if dropped or time.monotonic() >= check_at:
                before = set(self._running)
                self._list(calls)
                if not self.polling:
                    self.missed += len(self._running - before)
                check_at = time.monotonic() + (POLL_SECONDS if self.polling else CHECK_SECONDS)

    def _ask_state_roots(self, calls: Calls, program: str) -> None:
        from ig_py.containers.engines.docker_http import DockerTransport

        try:
            if program == state_roots.CRIO:
                with self._lock:
                    self._http = DockerTransport(self.socket_path, self.name)
                if self._stopping.is_set():
                    raise self.fail("/config", "stopped")
                with contextlib.closing(self._http) as http:
                    config = http.body("/config")
                for root, runtime in state_roots.of_crio_config(config):
                    self.report_state_root(root, runtime)
            else:
                for root in state_roots.of_containerd_config(calls.config()):
                    self.report_state_root(root, self.name)
        except EngineError as error:
            if self._stopping.is_set():
                raise
            # Where they are is learnt from the runtime's command line then.
            log.debug("%s", error)

    def _list(self, calls: Calls) -> None:
        from ig_py.containers.engines.cri_calls import RUNNING

        messages = [m for m in calls.containers() if valid_id(m.id)]
        self._failures = 0
        sandboxes: dict[str, pb.PodSandbox] | None = None
        running = {m.id for m in messages if m.state == RUNNING}
        for message in messages:
            begins = message.id in running and not self._sink.live(message.id)
            if message.id in self._known and not begins:
                continue
            if sandboxes is None:
                sandboxes = self._sandboxes(calls)
            self._report(calls, message, sandboxes, begins)
        present = {m.id for m in messages}
        for container_id in self._known - present:
            self.report_forgotten(container_id)
        self._known = present
        self.report_running(running)

    def _sandboxes(self, calls: Calls, sandbox_id: str = "") -> dict[str, pb.PodSandbox]:
        found = calls.sandboxes(sandbox_id)
        for known in filter(valid_id, found):
            self._sink.ignore(known)
        return found

    def _report(
        self,
        calls: Calls,
        message: pb.Container,
        sandboxes: dict[str, pb.PodSandbox],
        begins: bool,
    ) -> None:
        container = parse.from_container(message, sandboxes.get(message.pod_sandbox_id), self.name)
        if container is None:
            return
        self._sink.describe(container)
        if not begins:
            return
        if pid := self._sink.find_init(container.id):
            self.report_started(container, pid)
            return
        seen = 0
        for _ in range(2):
            asked = boot_seconds()
            pid = parse.pid_of(self._info(calls, container.id))
            # A pid that is told twice was not reused.
            if pid and (self._sink.owns(container.id, pid, asked) or pid == seen):
                self.report_started(container, pid)
                return
            if not pid:
                return
            seen = pid

    def _info(self, calls: Calls, container_id: str) -> dict[str, str]:
        try:
            return calls.info(container_id) or {}
        except EngineError as error:
            self._failures += 1
            if self._failures > MAX_FAILURES:
                raise
            log.debug("container %.12s: %s", container_id, error)
            return {}

    def _handle(self, calls: Calls, event: pb.ContainerEvent) -> None:
        from ig_py.containers.engines import cri_calls as cri

        container_id, kind = event.container_id, event.container_event_type
        if not valid_id(container_id):
            return
        if kind == cri.STOPPED_EVENT:
            self.report_died(container_id)
        elif kind == cri.DELETED_EVENT:
            self._known.discard(container_id)
            self.report_forgotten(container_id)
        elif kind in (cri.CREATED_EVENT, cri.STARTED_EVENT):
            # A pod's sandbox has events as well; the listing of containers leaves it out.
            for message in calls.containers(container_id):
                self._known.add(container_id)
                sandboxes = self._sandboxes(calls, message.pod_sandbox_id)
                begins = kind == cri.STARTED_EVENT and not self._sink.live(container_id)
                self._report(calls, message, sandboxes, begins)
