"""Walking an image: index → manifests → config and layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ig_py.errors import IntegrityError, LimitError
from ig_py.oci import limits, media
from ig_py.oci.artifact import Artifact, Descriptor, Layer, Origin
from ig_py.oci.document import Index, Manifest, parse_index, parse_manifest
from ig_py.oci.source import BlobMissing, BlobSource
from ig_py.records import dataclass, field


def is_document(descriptor: Descriptor) -> bool:
    """True for an index or a manifest."""
    return descriptor.media_type in (media.INDEX, media.MANIFEST)


def blob_limit(descriptor: Descriptor) -> int:
    """Largest accepted size of this content."""
    if is_document(descriptor):
        return limits.MAX_DOCUMENT
    if descriptor.media_type in (media.CONFIG_YAML, media.EMPTY_CONFIG):
        return limits.MAX_CONFIG
    return limits.layer_limit(descriptor.media_type)


def parse(descriptor: Descriptor, raw: bytes, what: str) -> Index | Manifest:
    """The document that *descriptor* announces."""
    if descriptor.media_type == media.INDEX:
        return parse_index(raw, what)
    return parse_manifest(raw, what)


def children(document: Index | Manifest) -> tuple[Descriptor, ...]:
    """What a document points at: manifests, or config and layers."""
    if isinstance(document, Index):
        return document.manifests
    return (document.config, *document.layers)


@dataclass
class Graph:
    """All of an image. *documents* come parents first; *blobs* are each listed once."""

    root: Descriptor
    documents: list[tuple[Descriptor, bytes]] = field(default_factory=list)
    blobs: list[Descriptor] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(d.size for d in self.blobs) + sum(len(raw) for _, raw in self.documents)

    @property
    def manifests(self) -> list[Descriptor]:
        """Every document below the root, as their parents describe them."""
        return [descriptor for descriptor, _ in self.documents[1:]]


def walk(source: BlobSource, root: Descriptor) -> Graph:
    """Read every document of an image and check what they announce against the limits.

    Raises :class:`IntegrityError`, :class:`LimitError`, or what *source* raises.
    """
    graph = Graph(root)
    seen: dict[str, Descriptor] = {}
    _walk(source, root, graph, seen, 0)
    if graph.total > limits.MAX_IMAGE:
        raise LimitError(
            f"{source.name}: the image's {graph.total} bytes exceed "
            f"the limit of {limits.human(limits.MAX_IMAGE)}"
        )
    return graph


def _walk(
    source: BlobSource,
    descriptor: Descriptor,
    graph: Graph,
    seen: dict[str, Descriptor],
    nesting: int,
) -> None:
    known = seen.get(descriptor.digest)
    if known is not None:
        if (known.size, is_document(known)) != (descriptor.size, is_document(descriptor)):
            raise IntegrityError(f"{source.describe(descriptor)}: described in two ways")
        return
    seen[descriptor.digest] = descriptor
    limit = blob_limit(descriptor)
    if descriptor.size > limit:
        raise LimitError(
            f"{source.describe(descriptor)}: its declared size of {descriptor.size} bytes "
            f"exceeds the limit of {limits.human(limit)}"
        )
    if not is_document(descriptor):
        graph.blobs.append(descriptor)
        return
    if nesting > limits.MAX_INDEX_NESTING:
        raise LimitError(f"{source.describe(descriptor)}: indexes nested too deeply")
    raw = source.read(descriptor)
    graph.documents.append((descriptor, raw))
    for child in children(parse(descriptor, raw, source.describe(descriptor))):
        _walk(source, child, graph, seen, nesting + 1)


def reachable(source: BlobSource, roots: Iterable[Descriptor]) -> set[str]:
    """Digests that *roots* lead to, themselves included; missing content leads nowhere.

    Raises :class:`IntegrityError` or :class:`LimitError` for a broken document.
    """
    found: set[str] = set()
    stack = list(roots)
    while stack:
        descriptor = stack.pop()
        if descriptor.digest in found:
            continue
        found.add(descriptor.digest)
        if not is_document(descriptor):
            continue
        try:
            document = parse(descriptor, source.read(descriptor), source.describe(descriptor))
        except BlobMissing:
            continue
        stack.extend(children(document))
        if isinstance(document, Manifest) and document.subject is not None:
            stack.append(document.subject)
    return found


def select(index: Index, arch: str, what: str) -> Descriptor:
    """The first manifest for *arch*; the OS is not looked at, as the compatible system has it.

    Raises :class:`IntegrityError` that lists what there is.
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
    return ", ".join(dict.fromkeys(names)) or "none at all"


def read_manifest(
    source: BlobSource, root: Descriptor, arch: str, what: str
) -> tuple[Descriptor, Manifest]:
    """The manifest for *arch* of the index *root*. Raises :class:`IntegrityError`."""
    if root.media_type != media.INDEX:
        raise IntegrityError(f'image "{what}" is not an image index')
    index = parse_index(source.read(root), source.describe(root))
    descriptor = select(index, arch, what)
    if descriptor.media_type != media.MANIFEST:
        raise IntegrityError(
            f"{what}: the entry for {arch} is no manifest but {descriptor.media_type!r}"
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
    """Everything of one architecture, verified.

    Raises :class:`IntegrityError`, :class:`LimitError`, :class:`StoreError`.
    """
    _, manifest = read_manifest(source, root, arch, reference)
    total = sum(d.size for d in children(manifest))
    if total > limits.MAX_IMAGE:
        raise LimitError(
            f"{reference}: the image's {total} bytes exceed "
            f"the limit of {limits.human(limits.MAX_IMAGE)}"
        )
    config = source.read(manifest.config, limits.MAX_CONFIG)
    layers = tuple(Layer(layer, source.read(layer, blob_limit(layer))) for layer in manifest.layers)
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


def copy_chunks(source: BlobSource, descriptor: Descriptor) -> Iterator[bytes]:
    """Content of *descriptor* under its limit, for copying."""
    return source.chunks(descriptor, blob_limit(descriptor))
