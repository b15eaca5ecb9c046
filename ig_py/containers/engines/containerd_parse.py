"""containerd's messages → Container. The engine is not trusted: anything may be missing or odd."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ig_py.containers import kubelabels
from ig_py.containers.model import Container, RuntimeInfo, labels, text, valid_id
from ig_py.containers.oci_bundle import NERDCTL
from ig_py.records import dataclass

if TYPE_CHECKING:
    from ig_py.containers.engines.protos import containerd_pb2 as pb

RUNTIME = "containerd"
MAX_DOCUMENT = 4 * 1024 * 1024
"""Bytes of an image index or manifest."""
KIND = "io.cri-containerd.kind"
DOCKER = "docker"
"""The runtime of the containers in Docker's namespace."""
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True, slots=True)
class ImageIds:
    """``digest`` is the image's (its index or manifest), ``config`` its id."""

    digest: str = ""
    config: str = ""


def from_container(
    message: pb.Container, image: ImageIds, runtime: str = RUNTIME
) -> Container | None:
    """None for a pod's sandbox, or nonsense. *runtime*: the engine that manages it."""
    if not valid_id(message.id):
        return None
    known = labels(dict(message.labels))
    if known.get(KIND) == "sandbox":
        return None
    return Container(
        runtime=RuntimeInfo(
            name=runtime,
            container_id=message.id,
            container_name=known.get(kubelabels.CONTAINER) or known.get(NERDCTL) or message.id,
            image_name=text(message.image),
            image_id=image.config or image.digest,
            image_digest=image.digest,
        ),
        k8s=kubelabels.info(known),
    )


def is_index(media_type: str) -> bool:
    return media_type in _INDEXES


def platform_manifest(raw: bytes, architecture: str) -> str:
    """Digest of an index's manifest for Linux on *architecture*; "" when it has none."""
    found = _document(raw).get("manifests")
    for entry in found if isinstance(found, list) else ():
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if (
            isinstance(platform, dict)
            and platform.get("os") == "linux"
            and platform.get("architecture") == architecture
        ):
            return text(entry.get("digest"))
    return ""


def config_digest(raw: bytes) -> str:
    """Digest of a manifest's config; "" when it names none."""
    config = _document(raw).get("config")
    return text(config.get("digest")) if isinstance(config, dict) else ""


def _document(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
