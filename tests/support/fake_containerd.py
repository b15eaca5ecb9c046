"""A containerd that only pretends: its gRPC methods on a unix socket, told by the test what to
answer, how slowly, how wrongly, and when to die."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from ig_py.containers.engines.protos import containerd_pb2 as pb
from ig_py.host.architecture import host_architecture

INDEX = "sha256:" + "1d" * 32
MANIFEST = "sha256:" + "2d" * 32
CONFIG = "sha256:" + "3d" * 32

_TOPICS = {
    "/containers/create": pb.ContainerEvent,
    "/containers/delete": pb.ContainerEvent,
    "/tasks/create": pb.TaskCreated,
    "/tasks/start": pb.TaskStarted,
    "/tasks/exit": pb.TaskExited,
}


@dataclass
class FakeContainer:
    id: str
    pid: int = 0
    image: str = "docker.io/library/bb:latest"
    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = "default"

    def message(self) -> pb.Container:
        return pb.Container(id=self.id, image=self.image, labels=self.labels)


class FakeContainerd:
    """*override*: method name (``Tasks/List``) → function that returns the raw answer or raises."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.containers: dict[tuple[str, str], FakeContainer] = {}
        self.override: dict[str, Callable[[], bytes]] = {}
        self.calls: list[str] = []
        self.namespaces: list[str] = []
        self._streams: list[queue.Queue[bytes | None]] = []
        self._lock = threading.Lock()
        self._server: grpc.Server | None = None

    def start(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self._server.add_insecure_port(f"unix:{self.path}")
        self._server.start()

    def stop(self) -> None:
        """Die: streams break off, the socket is gone."""
        server, self._server = self._server, None
        if server is None:
            return
        with self._lock:
            for stream in self._streams:
                stream.put(None)
            self._streams.clear()
        server.stop(0).wait()
        self.path.unlink(missing_ok=True)

    def subscribers(self) -> int:
        with self._lock:
            return len(self._streams)

    def add(self, container: FakeContainer) -> None:
        """A container that was there before anyone looked: no event."""
        self.containers[container.namespace, container.id] = container

    def begin(self, container: FakeContainer) -> None:
        pid, container.pid = container.pid, 0
        self.add(container)
        where = container.namespace
        self.event("/containers/create", where, id=container.id)
        container.pid = pid
        self.event("/tasks/create", where, container_id=container.id, pid=pid)
        self.event("/tasks/start", where, container_id=container.id, pid=pid)

    def end(self, container: FakeContainer) -> None:
        pid, container.pid = container.pid, 0
        self.containers.pop((container.namespace, container.id), None)
        where = container.namespace
        self.event("/tasks/exit", where, container_id=container.id, id=container.id, pid=pid)
        self.event("/containers/delete", where, id=container.id)

    def event(self, topic: str, namespace: str, **fields: Any) -> None:
        envelope = pb.Envelope(namespace=namespace, topic=topic)
        envelope.event.value = _TOPICS[topic](**fields).SerializeToString()
        self.raw(envelope.SerializeToString())

    def raw(self, message: bytes) -> None:
        """Send these bytes as an event."""
        with self._lock:
            for stream in self._streams:
                stream.put(message)

    def answer(self, method: str, request: bytes, namespace: str) -> bytes:
        here = [c for (where, _), c in self.containers.items() if where == namespace]
        if method == "Namespaces/List":
            names = sorted({where for where, _ in self.containers} | set(self.namespaces))
            found: Any = pb.Namespaces(namespaces=[pb.Named(name=name) for name in names])
        elif method == "Containers/List":
            found = pb.Containers(containers=[c.message() for c in here])
        elif method == "Containers/Get":
            wanted = pb.ContainerId.FromString(request).id
            found = pb.OneContainer(container=self.containers[namespace, wanted].message())
        elif method == "Tasks/List":
            found = pb.Tasks(
                tasks=[pb.Task(id=c.id, pid=c.pid, status=pb.TASK_RUNNING) for c in here if c.pid]
            )
        else:
            index = "application/vnd.oci.image.index.v1+json"
            found = pb.OneImage(
                image=pb.Image(target=pb.Descriptor(media_type=index, digest=INDEX))
            )
        return bytes(found.SerializeToString())

    def content(self, digest: str) -> bytes:
        platform = {"os": "linux", "architecture": host_architecture()}
        documents = {
            INDEX: {"manifests": [{"digest": MANIFEST, "platform": platform}]},
            MANIFEST: {"config": {"digest": CONFIG}},
        }
        return json.dumps(documents[digest]).encode()

    def follow(self, context: grpc.ServicerContext) -> Iterator[bytes]:
        stream: queue.Queue[bytes | None] = queue.Queue()
        context.add_callback(lambda: stream.put(None))
        with self._lock:
            self._streams.append(stream)
        while (message := stream.get()) is not None:
            yield message
        with self._lock:
            if stream in self._streams:
                self._streams.remove(stream)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, engine: FakeContainerd) -> None:
        self._engine = engine

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        engine = self._engine
        method = details.method.rpartition(".")[2]
        metadata = dict(details.invocation_metadata)
        namespace = str(metadata.get("containerd-namespace", ""))
        engine.calls.append(method)

        def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                if method in engine.override:
                    return engine.override[method]()
                return engine.answer(method, request, namespace)
            except KeyError:
                context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
                raise

        def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            if method == "Events/Subscribe":
                yield from engine.follow(context)
            else:
                raw = engine.content(pb.ContentRange.FromString(request).digest)
                yield pb.Content(data=raw).SerializeToString()

        if method in ("Events/Subscribe", "Content/Read"):
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)
