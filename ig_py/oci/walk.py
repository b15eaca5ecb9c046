"""All content of an image: index, manifests, configs and layers of every architecture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ig_py.errors import IntegrityError, LimitError
from ig_py.oci import limits, media
from ig_py.oci.artifact import Descriptor
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
    """Parse *raw* as the document that *descriptor* announces."""
    if descriptor.media_type == media.INDEX:
        return parse_index(raw, what)
    return parse_manifest(raw, what)


def children(document: Index | Manifest) -> tuple[Descriptor, ...]:
    """Descriptors in a document: manifests of an index, config and layers of a manifest."""
    if isinstance(document, Index):
        return document.manifests
    return (document.config, *document.layers)


@dataclass
class ImageContent:
    """All documents and blobs of the image *root*.

    *documents* are indexes and manifests with their bytes, parents first; *blobs* are configs
    and layers, each listed once.
    """

    root: Descriptor
    documents: list[tuple[Descriptor, bytes]] = field(default_factory=list)
    blobs: list[Descriptor] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(d.size for d in self.blobs) + sum(len(raw) for _, raw in self.documents)

    @property
    def manifests(self) -> list[Descriptor]:
        """Every document below the root, as its parent describes it."""
        return [descriptor for descriptor, _ in self.documents[1:]]


def walk(source: BlobSource, root: Descriptor) -> ImageContent:
    """Read every document of an image and check what they announce against the limits.

    Raises:
        IntegrityError: A document is malformed or damaged.
        LimitError: The image exceeds a limit.
        IgPyError: *source* cannot be read.
    """
    walker = _Walker(source, ImageContent(root))
    walker.visit(root, 0)
    _check_total(source, walker.content)
    return walker.content


def walk_all(source: BlobSource, roots: Sequence[Descriptor]) -> ImageContent:
    """The content of all images *roots* (one or more), what they share once; errors as of
    :func:`walk`. ``root`` is the first of them, ``documents`` have all roots.
    """
    walker = _Walker(source, ImageContent(roots[0]))
    for root in roots:
        walker.visit(root, 0)
    if walker.content.total > limits.MAX_IMAGE:
        # Only then can one of them be too large; what they share is read again for each.
        for root in {root.digest: root for root in roots}.values():
            walk(source, root)
    return walker.content


def _check_total(source: BlobSource, content: ImageContent) -> None:
    if content.total > limits.MAX_IMAGE:
        raise LimitError(
            f"{source.name}: the image's {content.total} bytes exceed "
            f"the limit of {limits.human(limits.MAX_IMAGE)}"
        )


class _Walker:
    def __init__(self, source: BlobSource, content: ImageContent) -> None:
        self._source = source
        self.content = content
        self._seen: dict[str, Descriptor] = {}
        self._heights: dict[str, int] = {}

    def visit(self, descriptor: Descriptor, nesting: int) -> int:
        """Visit *descriptor* and its content; the number of document levels from it down."""
        source = self._source
        known = self._seen.get(descriptor.digest)
        if known is not None:
            if (known.size, is_document(known)) != (descriptor.size, is_document(descriptor)):
                raise IntegrityError(f"{source.describe(descriptor)}: two descriptors of it differ")
            height = self._heights.get(descriptor.digest, 0)
            self._check_nesting(descriptor, nesting + height - 1)
            return height
        self._seen[descriptor.digest] = descriptor
        limit = blob_limit(descriptor)
        if descriptor.size > limit:
            raise LimitError(
                f"{source.describe(descriptor)}: its declared size of {descriptor.size} bytes "
                f"exceeds the limit of {limits.human(limit)}"
            )
        if not is_document(descriptor):
            self.content.blobs.append(descriptor)
            return 0
        self._check_nesting(descriptor, nesting)
        raw = source.read(descriptor)
        self.content.documents.append((descriptor, raw))
        below = children(parse(descriptor, raw, source.describe(descriptor)))
        height = 1 + max((self.visit(child, nesting + 1) for child in below), default=0)
        self._heights[descriptor.digest] = height
        return height

    def _check_nesting(self, descriptor: Descriptor, nesting: int) -> None:
        if nesting > limits.MAX_INDEX_NESTING:
            raise LimitError(f"{self._source.describe(descriptor)}: indexes nested too deeply")


def reachable(source: BlobSource, roots: Iterable[Descriptor]) -> set[str]:
    """Digests of *roots* and of all content below them; missing content is passed over.

    Raises:
        IntegrityError: A document is malformed or damaged.
        LimitError: A document exceeds a limit.
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
