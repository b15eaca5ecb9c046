"""The Docker client: the containers that exist, then every change, as long as the engine lives.

The event stream is opened before the listing, so no change falls between them. What both tell is
reported twice; the discovery keeps one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import quote

from ig_py.containers.engines import docker_parse as parse
from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.engines.docker_http import DockerTransport
from ig_py.containers.engines.engine import EngineClient, EngineError, EngineSink, NoSuchObject
from ig_py.containers.engines.state_roots import of_docker
from ig_py.containers.model import Container
from ig_py.host.proc import boot_seconds
from ig_py.records import replace

log = logging.getLogger(__name__)

INSPECT_ATTEMPTS = 2
MAX_IMAGES = 4096
"""Images whose digest is remembered."""


class DockerClient(EngineClient):
    """The engine at ``/run/docker.sock``, or another one that speaks its protocol."""

    name = parse.RUNTIME
    events: ClassVar[dict[str, list[str]]] = {
        "type": ["container"],
        "event": ["create", "start", "die", "destroy", "rename"],
    }
    inspect_level: ClassVar[int] = logging.WARNING
    """Of the message that a container cannot be inspected."""

    def __init__(self, config: EngineConfig, sink: EngineSink) -> None:
        super().__init__(config, sink)
        self._digests: dict[str, str] = {}
        self._transport: DockerTransport | None = None

    def abort(self) -> None:
        with self._lock:
            transport = self._transport
        if transport:
            transport.abort()

    def serve(self) -> None:
        rest = None if self.speaker.is_root else self.rest
        transport = DockerTransport(self.socket_path, self.name, rest)
        with self._lock:
            self._transport = transport
        try:
            if self._stopping.is_set():
                raise EngineError("stopped")
            transport.negotiate()
            with transport.events(self.events) as events:
                self._follow(transport, events)
        finally:
            transport.close()
            with self._lock:
                self._transport = None

    def _follow(self, transport: DockerTransport, events: Iterator[dict[str, Any]]) -> None:
        rest = self._list_running(transport)
        self.ready()
        for container in rest:
            self._sink.describe(self._with_digest(transport, container))
        self._ask_state_roots(transport)
        for event in events:
            self._handle(transport, event)

    def _ask_state_roots(self, transport: DockerTransport) -> None:
        inspected = None
        try:
            info = transport.get("/info")
            for container_id in sorted(self._running)[:1]:
                inspected = transport.get(f"/containers/{quote(container_id, safe='')}/json")
        except EngineError as error:
            if self._stopping.is_set():
                raise
            # Where they are is learnt from the runtime's command line then.
            log.debug("%s", error)
            return
        for root in of_docker(info, inspected):
            self.report_state_root(root, self.name)

    def _list_running(self, transport: DockerTransport) -> list[Container]:
        """Report what runs; the containers that do not are returned."""
        entries = transport.get("/containers/json", all="1")
        if not isinstance(entries, list):
            raise self.fail("/containers/json", "the answer is no list")
        rest: list[Container] = []
        running: set[str] = set()
        for entry in entries:
            container = parse.from_list(entry)
            if container is None:
                if sandbox := parse.sandbox_id(entry):
                    self._sink.ignore(sandbox)
                continue
            if not parse.is_running(entry):
                rest.append(container)
                continue
            running.add(container.id)
            container = self._with_digest(transport, container)
            self._sink.describe(container)
            self._start(transport, container.id, container)
        self.report_running(running)
        return rest

    def _handle(self, transport: DockerTransport, event: dict[str, Any]) -> None:
        container_id = parse.event_id(event)
        if not container_id or event.get("Type") != "container":
            return
        action = event.get("Action")
        if action == "create":
            self._create(transport, container_id, event)
        elif action == "start":
            self._start(transport, container_id, None)
        elif action in ("die", "died"):
            self.report_died(container_id)
        elif action in ("destroy", "remove"):
            self.report_forgotten(container_id)
        elif action == "rename":
            self._sink.renamed(container_id, parse.event_name(event))

    def _create(self, transport: DockerTransport, container_id: str, event: dict[str, Any]) -> None:
        # The engine holds the container's lock while it starts the container. A listing does not
        # wait for that lock; an inspect call answers only after the start.
        container = parse.from_event(event)
        try:
            filters = json.dumps({"id": [container_id]})
            found = transport.get("/containers/json", all="1", filters=filters)
            listed = parse.from_list(found[0]) if isinstance(found, list) and found else None
            if listed and listed.id == container_id:
                container = listed
        except EngineError as error:
            log.debug("%s", error)
        if container:
            self._sink.describe(self._with_digest(transport, container))

    def _start(
        self, transport: DockerTransport, container_id: str, listed: Container | None
    ) -> None:
        if self._sink.live(container_id):
            return
        if listed and (pid := self._sink.find_init(container_id)):
            self.report_started(listed, pid)
            return
        suspect = 0
        for _ in range(INSPECT_ATTEMPTS):
            asked = boot_seconds()
            try:
                answer = transport.get(f"/containers/{quote(container_id, safe='')}/json")
            except NoSuchObject:
                return
            except EngineError as error:
                if self._stopping.is_set():
                    raise
                log.log(self.inspect_level, "container %.12s: %s", container_id, error)
                continue
            container, pid = parse.from_inspect(answer), parse.pid_of(answer)
            if container is None or container.id != container_id or not pid:
                return
            # The pid may have been reused since the answer. One that the engine says twice was not.
            if pid == suspect or self._sink.owns(container_id, pid, asked):
                self.report_started(self._with_digest(transport, container), pid)
                return
            suspect = pid

    def _with_digest(self, transport: DockerTransport, container: Container) -> Container:
        image = container.runtime.image_id
        if not image:
            return container
        digest = self._digests.get(image)
        if digest is None:
            try:
                digest = parse.image_digest(transport.get(f"/images/{quote(image, safe=':')}/json"))
            except NoSuchObject:
                digest = ""
            except EngineError as error:
                if self._stopping.is_set():
                    raise
                log.debug("%s", error)
                return container
            if len(self._digests) >= MAX_IMAGES:
                self._digests.clear()
            self._digests[image] = digest
        return replace(container, runtime=replace(container.runtime, image_digest=digest))
