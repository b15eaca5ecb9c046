"""containerd's methods, as far as they are used. Import it late: it brings protobuf in."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from ig_py.containers.engines import containerd_parse as parse
from ig_py.containers.engines.engine import NoSuchObject
from ig_py.containers.engines.grpc_engine import LIST_SECONDS, GrpcTransport, Subscription
from ig_py.containers.engines.protos import containerd_pb2 as pb
from ig_py.host.architecture import host_architecture

_CONTAINERS = "/containerd.services.containers.v1.Containers/"
_CONTENT = "/containerd.services.content.v1.Content/Read"
_EVENTS = "/containerd.services.events.v1.Events/Subscribe"
_IMAGES = "/containerd.services.images.v1.Images/Get"
_NAMESPACES = "/containerd.services.namespaces.v1.Namespaces/List"
_TASKS = "/containerd.services.tasks.v1.Tasks/"


class Calls:
    """One engine.

    Raises:
        EngineError: In every method, if the call fails.
    """

    def __init__(self, transport: GrpcTransport) -> None:
        self._transport = transport

    def namespaces(self) -> Iterator[str]:
        answer = self._transport.call(_NAMESPACES, pb.Empty(), pb.Namespaces)
        return (entry.name for entry in answer.namespaces)

    def containers(self, namespace: str) -> Iterator[pb.Container]:
        where = _where(namespace)
        method = _CONTAINERS + "List"
        request = pb.ContainerFilters()
        return iter(
            self._transport.call(method, request, pb.Containers, where, LIST_SECONDS).containers
        )

    def container(self, namespace: str, container_id: str) -> pb.Container:
        where = _where(namespace)
        request = pb.ContainerId(id=container_id)
        found = self._transport.call(_CONTAINERS + "Get", request, pb.OneContainer, where).container
        if found.id != container_id:
            raise self._transport.error(_CONTAINERS + "Get", "the answer is another container")
        return found

    def running(self, namespace: str) -> dict[str, int]:
        """Container id → init's pid, of those that have a process."""
        where = _where(namespace)
        answer = self._transport.call(
            _TASKS + "List", pb.ContainerFilters(), pb.Tasks, where, LIST_SECONDS
        )
        gone = (pb.TASK_STOPPED, pb.TASK_UNKNOWN)
        return {task.id: task.pid for task in answer.tasks if task.status not in gone and task.pid}

    def image(self, namespace: str, name: str) -> pb.Descriptor:
        where = _where(namespace)
        return self._transport.call(_IMAGES, pb.Named(name=name), pb.OneImage, where).image.target

    def config_of(self, namespace: str, target: pb.Descriptor) -> str:
        """Digest of an image's config; "" when its documents are not there."""
        digest = target.digest
        try:
            if parse.is_index(target.media_type):
                raw = self._document(namespace, digest)
                digest = parse.platform_manifest(raw, host_architecture())
            return parse.config_digest(self._document(namespace, digest)) if digest else ""
        except NoSuchObject:
            return ""

    def events(self) -> Subscription[pb.Envelope]:
        topics = r'topic~="^/(containers|tasks)/"'
        return self._transport.follow(_EVENTS, pb.EventFilters(filters=[topics]), pb.Envelope)

    def told(self, envelope: pb.Envelope) -> tuple[str, str, int]:
        """Topic, container id ("" for no event of a container's own) and pid (0: none)."""
        raw = envelope.event.value
        try:
            if envelope.topic == "/tasks/create":
                made = pb.TaskCreated.FromString(raw)
                return envelope.topic, made.container_id, made.pid
            if envelope.topic == "/tasks/start":
                begun = pb.TaskStarted.FromString(raw)
                return envelope.topic, begun.container_id, begun.pid
            if envelope.topic == "/tasks/exit":
                ended = pb.TaskExited.FromString(raw)
                # The exit of an exec'd process has the id of the exec.
                return (
                    envelope.topic,
                    ended.container_id if ended.id == ended.container_id else "",
                    0,
                )
            return envelope.topic, pb.ContainerEvent.FromString(raw).id, 0
        except DecodeError as error:
            raise self._transport.error(
                _EVENTS, f"an event {envelope.topic[:64]!a} is malformed"
            ) from error

    def _document(self, namespace: str, digest: str) -> bytes:
        where = _where(namespace)
        request = pb.ContentRange(digest=digest)
        raw = bytearray()
        for part in self._transport.collect(_CONTENT, request, pb.Content, where):
            raw += part.data
            if len(raw) > parse.MAX_DOCUMENT:
                raise self._transport.error(_CONTENT, f"over {parse.MAX_DOCUMENT} bytes")
        return bytes(raw)


def _where(namespace: str) -> tuple[tuple[str, str], ...]:
    return (("containerd-namespace", namespace),)
