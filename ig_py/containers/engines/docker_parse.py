"""Docker's JSON → Container. The engine is not trusted: anything may be missing or odd."""

from __future__ import annotations

from typing import Any

from ig_py.containers.model import Container, KubernetesInfo, RuntimeInfo, labels, text, valid_id

RUNTIME = "docker"
_SANDBOX_LABEL = ("io.kubernetes.docker.type", "podsandbox")


def from_list(entry: Any) -> Container | None:
    """An element of ``/containers/json``; None for a sandbox or nonsense."""
    if not isinstance(entry, dict):
        return None
    return _container(
        entry.get("Id"),
        _own_name(entry.get("Names")),
        entry.get("Image"),
        entry.get("ImageID"),
        entry.get("Labels"),
        _object(entry, "HostConfig").get("NetworkMode"),
    )


def sandbox_id(entry: Any) -> str:
    """The id of what :func:`from_list` refused; "" for nonsense."""
    found = entry.get("Id") if isinstance(entry, dict) else None
    return found if isinstance(found, str) and valid_id(found) else ""


def from_inspect(answer: Any) -> Container | None:
    """An answer of ``/containers/ID/json``."""
    if not isinstance(answer, dict):
        return None
    config = _object(answer, "Config")
    return _container(
        answer.get("Id"),
        answer.get("Name"),
        config.get("Image"),
        answer.get("Image"),
        config.get("Labels"),
        _object(answer, "HostConfig").get("NetworkMode"),
    )


def from_event(event: dict[str, Any]) -> Container | None:
    """What a container event itself tells: its attributes hold name, image and labels."""
    attributes = _object(_object(event, "Actor"), "Attributes")
    return _container(
        event_id(event), attributes.get("name"), attributes.get("image"), "", attributes, ""
    )


def event_id(event: dict[str, Any]) -> str:
    """The container's id, "" when there is no valid one."""
    found = _object(event, "Actor").get("ID") or event.get("id")
    return found if isinstance(found, str) and valid_id(found) else ""


def event_name(event: dict[str, Any]) -> str:
    return _name(_object(_object(event, "Actor"), "Attributes").get("name"))


def pid_of(answer: Any) -> int:
    """Init's pid in an inspect answer; 0 when it does not run."""
    state = _object(answer, "State") if isinstance(answer, dict) else {}
    pid = state.get("Pid")
    return pid if isinstance(pid, int) and 0 < pid < 2**32 else 0


def is_running(entry: Any) -> bool:
    """Paused and restarting containers have a process too; opening it decides."""
    return isinstance(entry, dict) and entry.get("State") in ("running", "paused", "restarting")


def image_digest(answer: Any) -> str:
    """``sha256:…`` of the first repository digest of an image, "" for a local one."""
    digests = answer.get("RepoDigests") if isinstance(answer, dict) else None
    if not isinstance(digests, list) or not digests:
        return ""
    return text(digests[0]).partition("@")[2]


def _container(
    container_id: Any, name: Any, image: Any, image_id: Any, label_map: Any, network: Any
) -> Container | None:
    if not valid_id(container_id):
        return None
    known = labels(label_map)
    if known.get(_SANDBOX_LABEL[0]) == _SANDBOX_LABEL[1]:
        return None
    return Container(
        runtime=RuntimeInfo(
            name=RUNTIME,
            container_id=container_id,
            container_name=_name(name),
            image_name=text(image).partition("@")[0],
            image_id=text(image_id),
        ),
        k8s=KubernetesInfo(
            namespace=known.get("io.kubernetes.pod.namespace", ""),
            pod_name=known.get("io.kubernetes.pod.name", ""),
            container_name=known.get("io.kubernetes.container.name", ""),
            pod_uid=known.get("io.kubernetes.pod.uid", ""),
        ),
        host_network=network == "host",
    )


def _own_name(names: Any) -> Any:
    """The one of ``/db``, ``/web/db`` that is no alias within another container."""
    if not isinstance(names, list) or not names:
        return ""
    return next((n for n in names if isinstance(n, str) and n.rfind("/") <= 0), names[0])


def _name(value: Any) -> str:
    return text(value).removeprefix("/")


def _object(parent: Any, key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}
