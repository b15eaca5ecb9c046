"""CRI's methods, as far as they are used. Import it late: it brings protobuf in."""

from __future__ import annotations

from ig_py.containers.engines.engine import NoSuchObject
from ig_py.containers.engines.grpc_engine import LIST_SECONDS, GrpcTransport, Subscription
from ig_py.containers.engines.protos import cri_pb2 as pb

_SERVICE = "/runtime.v1.RuntimeService/"

RUNNING = pb.RUNNING
CREATED_EVENT = pb.CREATED_EVENT
STARTED_EVENT = pb.STARTED_EVENT
STOPPED_EVENT = pb.STOPPED_EVENT
DELETED_EVENT = pb.DELETED_EVENT


class Calls:
    """One engine.

    Raises:
        EngineError: In every method, if the call fails.
    """

    def __init__(self, transport: GrpcTransport) -> None:
        self._transport = transport

    def version(self) -> tuple[str, str]:
        """Name and version of what is behind the socket."""
        answer = self._transport.call(_SERVICE + "Version", pb.VersionRequest(), pb.Version)
        return answer.runtime_name, answer.runtime_version

    def config(self) -> dict[str, str]:
        """What the engine tells of itself beyond the interface."""
        request = pb.StatusRequest(verbose=True)
        answer = self._transport.call(_SERVICE + "Status", request, pb.StatusResponse)
        return dict(answer.info)

    def containers(self, container_id: str = "") -> list[pb.Container]:
        """Every container, or the one of that id if it exists; the id is matched as a prefix."""
        request = pb.ListContainersRequest()
        if container_id:
            request.filter.id = container_id
        method = _SERVICE + "ListContainers"
        answer = self._transport.call(method, request, pb.Containers, timeout=LIST_SECONDS)
        return [c for c in answer.containers if not container_id or c.id == container_id]

    def sandboxes(self, sandbox_id: str = "") -> dict[str, pb.PodSandbox]:
        request = pb.ListPodSandboxRequest()
        if sandbox_id:
            request.filter.id = sandbox_id
        method = _SERVICE + "ListPodSandbox"
        answer = self._transport.call(method, request, pb.PodSandboxes, timeout=LIST_SECONDS)
        return {item.id: item for item in answer.items}

    def info(self, container_id: str) -> dict[str, str] | None:
        """What the engine tells beyond the interface; None when the container does not exist."""
        request = pb.ContainerStatusRequest(container_id=container_id, verbose=True)
        try:
            answer = self._transport.call(
                _SERVICE + "ContainerStatus", request, pb.ContainerStatusResponse
            )
        except NoSuchObject:
            return None
        return dict(answer.info) if answer.status.id == container_id else None

    def events(self) -> Subscription[pb.ContainerEvent]:
        return self._transport.follow(
            _SERVICE + "GetContainerEvents", pb.GetEventsRequest(), pb.ContainerEvent
        )
