"""All signatures of one image, fully read, so that they can be copied with it."""

from __future__ import annotations

from ig_py.errors import IgPyError
from ig_py.oci.artifact import Descriptor
from ig_py.oci.ingest import Ingest
from ig_py.oci.source import LayoutSource
from ig_py.oci.trust.find import LocalSignatures, find
from ig_py.oci.trust.model import MAX_SIGNATURE, Signature, SignatureSource
from ig_py.records import dataclass, field


@dataclass
class Bundle:
    """The signatures of *image*. *blobs*: all their content, of each the manifest last."""

    image: Descriptor
    signatures: list[Signature] = field(default_factory=list)
    blobs: list[tuple[Descriptor, bytes]] = field(default_factory=list)

    def stage(self, session: Ingest) -> None:
        for descriptor, content in self.blobs:
            if not session.adopt(descriptor):
                session.write(descriptor, [content])

    def entries(self) -> list[tuple[Descriptor, str | None]]:
        """What a store's ``index.json`` lists for them."""
        return [(listed(s), s.tag or None) for s in self.signatures]


def listed(signature: Signature) -> Descriptor:
    """How a layout's ``index.json`` describes a signature."""
    return Descriptor(
        signature.descriptor.media_type,
        signature.descriptor.digest,
        signature.descriptor.size,
        artifact_type="" if signature.tag else signature.kind,
    )


def collect(source: SignatureSource, image: Descriptor) -> Bundle:
    """Read all signatures of an image; a damaged signature is left out.

    Raises:
        LimitError: There are too many.
        IgPyError: *source* cannot be asked.
    """
    bundle = Bundle(image)
    seen: set[str] = set()
    found, _ = find(source, image)
    for signature in found:
        if signature.descriptor.digest in seen:
            continue
        try:
            parts = [
                (part, source.read(part, MAX_SIGNATURE))
                for part in (signature.manifest.config, *signature.manifest.layers)
            ]
        except IgPyError:
            continue
        seen.add(signature.descriptor.digest)
        bundle.signatures.append(signature)
        bundle.blobs += parts
        bundle.blobs.append((signature.descriptor, signature.manifest.raw))
    return bundle


def local(source: LayoutSource) -> LocalSignatures:
    """Signatures in a store or layout, as it is now."""
    return LocalSignatures(source, source.index())
