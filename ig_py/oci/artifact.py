"""Records of images: platform, descriptor, layer, artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from ig_py.oci import gojson
from ig_py.records import dataclass, field

Origin = Literal["store", "layout", "archive", "source"]


class KeptMetadata(Protocol):
    """Where metadata is kept as it was parsed."""

    def get(self, raw: bytes) -> dict[str, Any] | None:
        """What the metadata *raw* says; None: that is not kept."""

    def put(self, raw: bytes, document: dict[str, Any]) -> None:
        """Keep what the metadata *raw* says."""


@dataclass(frozen=True)
class Platform:
    architecture: str
    os: str = "linux"


@dataclass(frozen=True)
class Descriptor:
    """A pointer to content: what it is, its digest and its size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    data: str = ""
    artifact_type: str = ""
    urls: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The descriptor as an ordered document (docs/reference/image-format.md#documents)."""
        doc: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.urls:
            doc["urls"] = list(self.urls)
        if self.annotations:
            doc["annotations"] = gojson.sorted_map(self.annotations)
        if self.data:
            doc["data"] = self.data
        if self.platform is not None:
            doc["platform"] = {
                "architecture": self.platform.architecture,
                "os": self.platform.os,
            }
        if self.artifact_type:
            doc["artifactType"] = self.artifact_type
        return doc


@dataclass(frozen=True)
class Layer:
    """A layer and its verified content."""

    descriptor: Descriptor
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Artifact:
    """One architecture of a gadget image, fully read; digests and sizes are verified.

    *reference* is what the user typed, *normalized* its full form (a path for what
    is not in the store), *digest* that of the index (of the manifest, for a document
    that is no index), *annotations* those of the manifest.
    """

    reference: str
    normalized: str
    digest: str
    manifest_raw: bytes = field(repr=False)
    manifest: dict[str, Any] = field(repr=False)
    config: bytes = field(repr=False)
    config_descriptor: Descriptor
    layers: tuple[Layer, ...]
    origin: Origin
    annotations: Mapping[str, str]
    parsed: KeptMetadata | None = field(default=None, repr=False)

    def layers_of(self, media_type: str) -> list[Layer]:
        """Layers of one media type, in order."""
        return [layer for layer in self.layers if layer.descriptor.media_type == media_type]
