"""Builds an image of files, with the same bytes and digests as ``ig image build``.

Facts: docs/reference/image-format.md#documents.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ig_py.errors import LimitError, MetadataError
from ig_py.oci import digest as digests
from ig_py.oci import gojson, limits, media
from ig_py.oci.artifact import Descriptor, Platform
from ig_py.records import dataclass, field

ARCHITECTURES = ("amd64", "arm64")
"""Every image has a manifest for each, also when they share all content."""

_FROM_METADATA = (
    (media.TITLE, "name"),
    (media.DESCRIPTION, "description"),
    (media.URL, "homepageURL"),
    (media.DOCUMENTATION, "documentationURL"),
    (media.SOURCE, "sourceURL"),
)
_STRING_KEYS = frozenset(name for _, name in _FROM_METADATA)


@dataclass(frozen=True)
class GadgetFiles:
    """Files of one architecture."""

    ebpf: bytes | None = field(default=None, repr=False)
    wasm: bytes | None = field(default=None, repr=False)
    btfgen: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class PackedImage:
    """An image in memory: the index's descriptor and every blob by digest."""

    index: Descriptor
    blobs: dict[str, bytes] = field(repr=False)


def pack(
    objects: Mapping[str, GadgetFiles],
    metadata: bytes | None,
    *,
    builder_version: str,
    created: str,
) -> PackedImage:
    """Build the image of *objects* (by architecture) and *metadata* (gadget.yaml, raw).

    *builder_version* (``v0.1.0``) and *created* (RFC 3339) become annotations.

    Raises:
        MetadataError: Gadget.yaml cannot be read.
        LimitError: No reader would accept the content.
    """
    blobs: dict[str, bytes] = {}
    annotations = image_annotations(metadata, builder_version=builder_version, created=created)

    def add(media_type: str, content: bytes, **more: Any) -> Descriptor:
        digest = digests.of(content)
        blobs[digest] = content
        return Descriptor(media_type, digest, len(content), **more)

    if metadata is None:
        config = add(
            media.EMPTY_CONFIG,
            b"{}",
            annotations=annotations,
            data=base64.b64encode(b"{}").decode(),
        )
    else:
        _check_size("gadget.yaml", metadata, limits.MAX_CONFIG)
        config = add(media.CONFIG_YAML, metadata, annotations=annotations)
    manifests = []
    for arch in sorted({*ARCHITECTURES, *objects}):
        files = objects.get(arch, GadgetFiles())
        layers = []
        for media_type, data in (
            (media.EBPF_LAYER, files.ebpf),
            (media.WASM_LAYER, files.wasm),
            (media.BTFGEN_LAYER, files.btfgen),
        ):
            if data is not None:
                _check_size(f"{arch} {media_type}", data, limits.layer_limit(media_type))
                layers.append(add(media_type, data))
        raw = manifest_bytes(config, layers, annotations)
        manifests.append(add(media.MANIFEST, raw, annotations=annotations, platform=Platform(arch)))
    index = add(media.INDEX, index_bytes(manifests, annotations), annotations=annotations)
    return PackedImage(index, blobs)


def manifest_bytes(
    config: Descriptor, layers: list[Descriptor], annotations: Mapping[str, str]
) -> bytes:
    """The manifest document; it has no ``mediaType`` key."""
    return gojson.dumps(
        {
            "schemaVersion": 2,
            "artifactType": media.GADGET,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
            "annotations": gojson.sorted_map(annotations),
        }
    )


def index_bytes(manifests: list[Descriptor], annotations: Mapping[str, str]) -> bytes:
    """The index document."""
    return gojson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media.INDEX,
            "manifests": [manifest.to_json() for manifest in manifests],
            "annotations": gojson.sorted_map(annotations),
        }
    )


def image_annotations(
    metadata: bytes | None, *, builder_version: str, created: str
) -> dict[str, str]:
    """The annotations of an image: those of gadget.yaml win, except over *created*."""
    annotations: dict[str, str] = {}
    if metadata is not None:
        top, own = _scalars(metadata)
        annotations = {key: top.get(name, "") for key, name in _FROM_METADATA}
        annotations[media.BUILDER_VERSION] = builder_version
        annotations |= own
    annotations[media.CREATED] = created
    return annotations


def _check_size(what: str, data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise LimitError(
            f"{what}: {limits.human(len(data))} is more than the {limits.human(limit)} "
            "that readers accept"
        )


def _scalars(metadata: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Top-level scalars and the ``annotations`` map, as source text (``1.50`` stays so)."""
    from ig_py.yamlsafe import load, load_texts

    load(metadata, "gadget.yaml")
    documents = load_texts(metadata, "gadget.yaml")
    if not documents or documents[0][0] is None:
        return {}, {}
    root, lines = documents[0]
    if not isinstance(root, dict):
        raise MetadataError("gadget.yaml: the document is not a map")
    own = root.get("annotations") or {}
    if not isinstance(own, dict):
        raise MetadataError(f"{lines.at(('annotations',))}: annotations is not a map")
    for name in _STRING_KEYS:
        if isinstance(root.get(name), (dict, list)):
            raise MetadataError(f"{lines.at((name,))}: {name} is not a string")
    for name, value in own.items():
        if isinstance(value, (dict, list)):
            raise MetadataError(f"{lines.at(('annotations', name))}: expected a single value")
    return _texts(root), _texts(own)


def _texts(mapping: dict[str, Any]) -> dict[str, str]:
    return {k: v or "" for k, v in mapping.items() if not isinstance(v, (dict, list))}
