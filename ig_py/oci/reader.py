"""Reading one architecture of an image: index, manifest, metadata and layers."""

from __future__ import annotations

from collections.abc import Sequence

from ig_py.errors import IntegrityError, LimitError, listed
from ig_py.oci import limits, media
from ig_py.oci.artifact import Artifact, Descriptor, Layer, Origin
from ig_py.oci.document import Index, Manifest, parse_index, parse_manifest
from ig_py.oci.source import BlobSource
from ig_py.oci.walk import blob_limit, children


def select(index: Index, arch: str, what: str) -> Descriptor:
    """The first manifest for *arch*; the OS is ignored, as in ``ig``.

    Raises:
        IntegrityError: There is none; the error lists what there is.
    """
    for descriptor in index.manifests:
        if descriptor.platform is not None and descriptor.platform.architecture == arch:
            return descriptor
    raise IntegrityError(
        f'{what}: no manifest found for architecture "{arch}"',
        remedy=f"the index has {_listing(index.manifests)}",
    )


def _listing(manifests: Sequence[Descriptor]) -> str:
    names = [
        d.platform.architecture or "one of unknown architecture" if d.platform
        else "one without platform"
        for d in manifests
    ]  # fmt: skip
    return listed(dict.fromkeys(names)) or "none at all"


def read_manifest(
    source: BlobSource, root: Descriptor, arch: str, what: str
) -> tuple[Descriptor, Manifest]:
    """The manifest for *arch* of the index *root*.

    Raises:
        IntegrityError: *root* is not an index, lists none for *arch*, or a document is malformed.
        LimitError: A document exceeds a limit.
        IgPyError: *source* cannot be read.
    """
    if root.media_type != media.INDEX:
        raise IntegrityError(f'image "{what}" is not an image index')
    index = parse_index(source.read(root), source.describe(root))
    descriptor = select(index, arch, what)
    if descriptor.media_type != media.MANIFEST:
        raise IntegrityError(
            f"{what}: the entry for {arch} is not a manifest but {descriptor.media_type!r}"
        )
    return descriptor, parse_manifest(source.read(descriptor), source.describe(descriptor))


def read_artifact(
    source: BlobSource,
    root: Descriptor,
    *,
    arch: str,
    reference: str,
    normalized: str,
    origin: Origin,
) -> Artifact:
    """All content of one architecture, verified.

    Raises:
        IntegrityError: There is nothing for *arch*, or content is malformed or damaged.
        LimitError: Content exceeds a limit.
        IgPyError: *source* cannot be read.
    """
    _, manifest = read_manifest(source, root, arch, reference)
    total = sum(d.size for d in children(manifest))
    if total > limits.MAX_IMAGE:
        raise LimitError(
            f"{reference}: the image's {total} bytes exceed "
            f"the limit of {limits.human(limits.MAX_IMAGE)}"
        )
    config = source.read(manifest.config, limits.MAX_CONFIG)
    # A manifest may list one blob many times.
    blobs: dict[tuple[str, int], bytes] = {}
    for layer in manifest.layers:
        if (layer.digest, layer.size) not in blobs:
            blobs[layer.digest, layer.size] = source.read(layer, blob_limit(layer))
    layers = tuple(Layer(layer, blobs[layer.digest, layer.size]) for layer in manifest.layers)
    return Artifact(
        reference=reference,
        normalized=normalized,
        digest=root.digest,
        manifest_raw=manifest.raw,
        manifest=manifest.doc,
        config=config,
        config_descriptor=manifest.config,
        layers=layers,
        origin=origin,
        annotations=manifest.annotations,
    )
