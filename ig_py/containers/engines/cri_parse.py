"""CRI's messages → Container. The engine is not trusted: anything may be missing or odd."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ig_py.containers import kubelabels
from ig_py.containers.model import Container, RuntimeInfo, labels, text, valid_id
from ig_py.records import replace

if TYPE_CHECKING:
    from ig_py.containers.engines.protos import cri_pb2 as pb

MAX_INFO = 16 * 1024 * 1024


def from_container(
    message: pb.Container, sandbox: pb.PodSandbox | None, runtime: str
) -> Container | None:
    """None for nonsense. *sandbox*: its pod's, if known."""
    if not valid_id(message.id):
        return None
    known = labels(dict(message.labels))
    k8s = kubelabels.info(known, labels(dict(sandbox.labels)) if sandbox else None)
    if sandbox is not None:
        pod = sandbox.metadata
        k8s = replace(
            k8s,
            namespace=k8s.namespace or text(pod.namespace),
            pod_name=k8s.pod_name or text(pod.name),
            pod_uid=k8s.pod_uid or text(pod.uid),
        )
    name = text(message.metadata.name)
    k8s = replace(k8s, container_name=k8s.container_name or name)
    if runtime in ("cri-o", "docker"):
        # As these engines themselves name it.
        attempt = message.metadata.attempt
        name = text(f"k8s_{name}_{k8s.pod_name}_{k8s.namespace}_{k8s.pod_uid}_{attempt}")
    digest = text(message.image_ref)
    digest = digest.partition("@")[2] or digest
    return Container(
        runtime=RuntimeInfo(
            name=runtime,
            container_id=message.id,
            container_name=name,
            image_name=text(message.image.user_specified_image or message.image.image),
            image_id=text(message.image_id) or digest,
            image_digest=digest,
        ),
        k8s=k8s,
        sandbox_id=message.pod_sandbox_id if valid_id(message.pod_sandbox_id) else "",
    )


def pid_of(info: Mapping[str, str]) -> int:
    """Init's pid in a verbose status; 0 when it is not there."""
    document = _document(info.get("info", ""))
    pid: Any = document.get("pid")
    if pid is None:
        # What old versions of CRI-O said.
        raw = info.get("pid", "")
        pid = int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 11 else 0
    return pid if isinstance(pid, int) and 0 < pid < 2**32 else 0


def _document(raw: str) -> dict[str, Any]:
    if len(raw) > MAX_INFO:
        return {}
    try:
        document = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
