"""A CRI engine that only pretends: its gRPC methods on a unix socket, told by the test what to
answer, how wrongly, whether it has events, and when to die."""

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

from ig_py.containers.engines.protos import cri_pb2 as pb

DIGEST = "sha256:" + "4d" * 32


@dataclass
class FakeContainer:
    id: str
    name: str = "main"
    pid: int = 0
    sandbox: str = "5a" * 32
    labels: dict[str, str] = field(default_factory=dict)

    def message(self) -> pb.Container:
        return pb.Container(
            id=self.id,
            pod_sandbox_id=self.sandbox,
            metadata=pb.ContainerMetadata(name=self.name, attempt=2),
            image=pb.ImageSpec(image="docker.io/library/bb:latest"),
            image_ref=f"docker.io/library/bb@{DIGEST}",
            state=pb.RUNNING if self.pid else pb.CREATED,
            labels=self.labels,
        )


class FakeCri:
    """*override*: method → function that returns the raw answer or raises. *has_events*: whether
    there is a stream of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.containers: dict[str, FakeContainer] = {}
        self.override: dict[str, Callable[[], bytes]] = {}
        self.calls: list[str] = []
        self.has_events = True
        self.old_info = False
        self._streams: list[queue.Queue[bytes | None]] = []
        self._lock = threading.Lock()
        self._server: grpc.Server | None = None

    def start(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self._server.add_insecure_port(f"unix:{self.path}")
        self._server.start()

    def stop(self) -> None:
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
        self.containers[container.id] = container

    def begin(self, container: FakeContainer) -> None:
        pid, container.pid = container.pid, 0
        self.add(container)
        self.event(pb.CREATED_EVENT, container.id)
        container.pid = pid
        self.event(pb.STARTED_EVENT, container.id)

    def event(self, kind: Any, container_id: str) -> None:
        event = pb.ContainerEvent(container_id=container_id, container_event_type=kind)
        self.raw(event.SerializeToString())

    def raw(self, message: bytes) -> None:
        """Any bytes as an event."""
        with self._lock:
            for stream in self._streams:
                stream.put(message)

    def answer(self, method: str, request: bytes) -> bytes:
        if method == "Version":
            found: Any = pb.Version(runtime_name="fake", runtime_version="1")
        elif method == "ListContainers":
            wanted = pb.ListContainersRequest.FromString(request).filter.id
            here = [c for c in self.containers.values() if c.id.startswith(wanted)]
            found = pb.Containers(containers=[c.message() for c in here])
        elif method == "ListPodSandbox":
            pod = pb.PodSandboxMetadata(name="pod-one", uid="1111", namespace="shop")
            labels = {"app": "x", "io.kubernetes.pod.name": "pod-one"}
            found = pb.PodSandboxes(
                items=[
                    pb.PodSandbox(id=sandbox, metadata=pod, labels=labels)
                    for sandbox in sorted({c.sandbox for c in self.containers.values()})
                ]
            )
        else:
            container = self.containers[pb.ContainerStatusRequest.FromString(request).container_id]
            info = {"info": json.dumps({"pid": container.pid, "runtimeSpec": {}})}
            if self.old_info:
                info = {"pid": str(container.pid)}
            found = pb.ContainerStatusResponse(
                status=pb.ContainerStatus(id=container.id), info=info
            )
        return bytes(found.SerializeToString())

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
    def __init__(self, engine: FakeCri) -> None:
        self._engine = engine

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        engine = self._engine
        service, _, method = details.method.rpartition("/")
        engine.calls.append(method)
        if service != "/runtime.v1.RuntimeService":
            return None
        if method == "GetContainerEvents":
            if not engine.has_events:
                return None
            return grpc.unary_stream_rpc_method_handler(
                lambda _request, context: engine.follow(context)
            )

        def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                if method in engine.override:
                    return engine.override[method]()
                return engine.answer(method, request)
            except KeyError:
                context.abort(grpc.StatusCode.NOT_FOUND, "no such container")
                raise

        return grpc.unary_unary_rpc_method_handler(unary)
