"""The containerd client: its own protocol, in every one of its namespaces or in the chosen ones.

The engine does not say when a subscription to events has begun. So a second listing follows soon
after the first, and others every half minute: containers that no event told of are counted
(``missed``).
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from ig_py.containers.engines import containerd_parse as parse
from ig_py.containers.engines.config import DOCKER_NAMESPACE, EngineConfig
from ig_py.containers.engines.engine import (
    EngineError,
    EngineSink,
    NoAnswer,
    NoSuchObject,
)
from ig_py.containers.engines.grpc_engine import GrpcEngineClient, GrpcTransport
from ig_py.containers.engines.state_roots import of_containerd
from ig_py.containers.model import Container, text, valid_id
from ig_py.host.proc import boot_seconds

if TYPE_CHECKING:
    from ig_py.containers.engines.containerd_calls import Calls
    from ig_py.containers.engines.protos import containerd_pb2 as pb

log = logging.getLogger(__name__)

MAX_NAMESPACES = 256
MAX_IMAGES = 4096
"""Images whose ids are remembered."""
FIRST_CHECK = 0.5
CHECK_SECONDS = 30.0
"""How often a listing checks what the events told."""
AGAIN_SECONDS = 5.0
"""After this a listing makes up for what an engine that is too slow did not answer."""
MAX_UNANSWERED = 12
"""Calls without an answer since the last listing after which the engine counts as gone."""


class ContainerdClient(GrpcEngineClient):
    """The engine at ``/run/containerd/containerd.sock``."""

    name = parse.RUNTIME

    def __init__(self, config: EngineConfig, sink: EngineSink) -> None:
        super().__init__(config, sink)
        self._configs: dict[str, str] = {}
        self._images: dict[tuple[str, str], parse.ImageIds] = {}
        """Of the listing under way: namespace and name → ids."""

    def follow(self, transport: GrpcTransport) -> None:
        from ig_py.containers.engines.containerd_calls import Calls

        self._follow(Calls(transport))

    def _follow(self, calls: Calls) -> None:
        events = calls.events()
        rest = self._list(calls)
        self.ready()
        for namespace, message in rest:
            self._describe(calls, namespace, message)
        check_at = time.monotonic() + FIRST_CHECK
        unanswered = 0
        while not self._stopping.is_set():
            envelope = events.get(max(0.0, check_at - time.monotonic()))
            try:
                if envelope is not None:
                    self._handle(calls, envelope)
                if events.dropped() or time.monotonic() >= check_at:
                    self._check(calls)
                    check_at = time.monotonic() + CHECK_SECONDS
                    unanswered = 0
            except NoAnswer as error:
                # Its events still come; a new connection would miss some.
                unanswered += 1
                if unanswered > MAX_UNANSWERED:
                    raise
                log.debug("%s", error)
                now = time.monotonic()
                # Calls that stay unanswered must not put the listing off for ever.
                due = check_at if check_at > now else now + AGAIN_SECONDS
                check_at = min(due, now + AGAIN_SECONDS)

    def _check(self, calls: Calls) -> None:
        before = set(self._running)
        for namespace, message in self._list(calls):
            self._describe(calls, namespace, message)
        self.missed += len(self._running - before)

    def _wanted(self, namespace: str) -> bool:
        if self.config.namespaces:
            return namespace in self.config.namespaces
        return namespace not in self.config.others_namespaces

    def _list(self, calls: Calls) -> list[tuple[str, pb.Container]]:
        """Report the containers that run; the others are returned, with their namespace."""
        rest: list[tuple[str, pb.Container]] = []
        running: set[str] = set()
        names = self.config.namespaces or tuple(calls.namespaces())[:MAX_NAMESPACES]
        for namespace in filter(self._wanted, names):
            asked = boot_seconds()
            pids = calls.running(namespace)
            for message in calls.containers(namespace):
                pid = pids.get(message.id)
                if not pid:
                    rest.append((namespace, message))
                    continue
                if self._started(calls, namespace, message, pid, asked):
                    running.add(message.id)
        self.report_running(running)
        self._images.clear()
        return rest

    def _handle(self, calls: Calls, envelope: pb.Envelope) -> None:
        if not self._wanted(envelope.namespace):
            return
        topic, container_id, pid = calls.told(envelope)
        if not valid_id(container_id):
            return
        if topic in ("/containers/create", "/containers/update"):
            self._described(calls, envelope.namespace, container_id)
        elif topic == "/containers/delete":
            self.report_forgotten(container_id)
        elif topic in ("/tasks/create", "/tasks/start"):
            self._task(calls, envelope.namespace, container_id, pid)
        elif topic == "/tasks/exit":
            self.report_died(container_id)

    def _task(self, calls: Calls, namespace: str, container_id: str, pid: int) -> None:
        if not pid or self._sink.live(container_id):
            return
        try:
            message = calls.container(namespace, container_id)
        except NoSuchObject:
            return
        self._started(calls, namespace, message, pid)

    def _started(
        self,
        calls: Calls,
        namespace: str,
        message: pb.Container,
        pid: int,
        asked: float | None = None,
    ) -> bool:
        """*asked*: when the engine was asked, in seconds since boot: *pid* may have been reused
        since it answered; None: it named *pid* just now.

        False when it is no container.
        """
        container = self._container(calls, namespace, message)
        if container is None:
            if valid_id(message.id):
                self._sink.ignore(message.id)
            return False
        if self._sink.live(container.id):
            # It may have been renamed while the engine was not heard.
            self._sink.describe(container)
            return True
        sure = asked is None or self._sink.owns(container.id, pid, asked)
        if sure or calls.running(namespace).get(container.id) == pid:
            self.report_started(container, pid)
        return True

    def _described(self, calls: Calls, namespace: str, container_id: str) -> None:
        with contextlib.suppress(NoSuchObject):
            self._describe(calls, namespace, calls.container(namespace, container_id))

    def _describe(self, calls: Calls, namespace: str, message: pb.Container) -> None:
        if container := self._container(calls, namespace, message):
            self._sink.describe(container)
        elif valid_id(message.id):
            self._sink.ignore(message.id)

    def _container(self, calls: Calls, namespace: str, message: pb.Container) -> Container | None:
        # Where the namespace was asked for by name, its containers are shown as containerd's.
        dockers = namespace == DOCKER_NAMESPACE and namespace not in self.config.namespaces
        if root := of_containerd(message):
            self.report_state_root(root, parse.DOCKER if dockers else parse.RUNTIME)
        image = self._image(calls, namespace, message.image)
        return parse.from_container(message, image, parse.DOCKER if dockers else parse.RUNTIME)

    def _image(self, calls: Calls, namespace: str, name: str) -> parse.ImageIds:
        if not name:
            return parse.ImageIds()
        if found := self._images.get((namespace, name)):
            return found
        try:
            target = calls.image(namespace, name)
            config = self._configs.get(target.digest)
            if config is None:
                config = calls.config_of(namespace, target)
        except EngineError as error:
            if self._stopping.is_set():
                raise
            log.debug("%s", error)
            return parse.ImageIds()
        if len(self._configs) >= MAX_IMAGES:
            self._configs.clear()
        self._configs[target.digest] = config
        if len(self._images) >= MAX_IMAGES:
            self._images.clear()
        found = self._images[namespace, name] = parse.ImageIds(text(target.digest), config)
        return found
