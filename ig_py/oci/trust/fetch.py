"""Signatures move with their image: from a registry, to a registry, between layouts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ig_py.errors import IgPyError, LimitError, RegistryNotFound
from ig_py.oci import digest as digests
from ig_py.oci import gojson, limits, media
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import parse_index
from ig_py.oci.ingest import Ingest
from ig_py.oci.places import places
from ig_py.oci.reference import Reference
from ig_py.oci.registry import RegistryOptions, Repository
from ig_py.oci.source import LayoutSource
from ig_py.oci.store import Store
from ig_py.oci.trust.find import LocalSignatures, find, listed_referrers
from ig_py.oci.trust.model import MAX_SIGNATURE, Signature, SignatureSource, tag_of
from ig_py.records import dataclass, field


class RemoteSignatures:
    """Signatures in a registry's repository."""

    def __init__(self, remote: Repository) -> None:
        self.name = remote.name
        self._remote = remote

    def tagged(self, tag: str) -> Descriptor | None:
        try:
            return self._remote.resolve(tag)
        except RegistryNotFound:
            return None

    def referrers(self, digest: str) -> Sequence[Descriptor]:
        found = self._remote.referrers(digest) or []
        known = {d.digest for d in found}
        # Signatures from before the registry kept count are in the tag only.
        return found + [d for d in listed_referrers(self, digest) if d.digest not in known]

    def read(self, descriptor: Descriptor, limit: int) -> bytes:
        return self._remote.read(descriptor, limit)


@dataclass
class Bundle:
    """The signatures of *image*, fully read. *blobs*: all content, manifests last."""

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
    """Read all of an image's signatures. What is broken among them is left out.

    Raises :class:`LimitError`, or what *source* raises when it cannot be asked.
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
        except (LimitError, IgPyError):
            continue
        seen.add(signature.descriptor.digest)
        bundle.signatures.append(signature)
        bundle.blobs += parts
        bundle.blobs.append((signature.descriptor, signature.manifest.raw))
    return bundle


def local(source: LayoutSource) -> LocalSignatures:
    """Signatures in a store or layout, as it is now."""
    return LocalSignatures(source, source.index())


def pull_signatures(
    reference: Reference, image: Descriptor, store: Store, options: RegistryOptions
) -> int:
    """Add the signatures that the image's registry has to the store; how many there are.

    Mirrors come first: one may have the image and not what signs it. Raises
    :class:`RegistryError`, :class:`IntegrityError`, :class:`LimitError`, :class:`StoreError`
    of the last place that was asked.
    """
    for place in (asked := places(reference)):
        try:
            with Repository(place, options) as remote:
                bundle = collect(RemoteSignatures(remote), image)
        except IgPyError:
            if place is asked[-1]:
                raise
            continue
        if bundle.signatures:
            with store.ingest() as session:
                bundle.stage(session)
                store.commit(session, bundle.entries())
            return len(bundle.signatures)
    return 0


def push_signatures(remote: Repository, store: Store, image: Descriptor) -> int:
    """Send what the store has to the repository that the image was pushed to; how many."""
    bundle = collect(local(store), image)
    manifests = {s.descriptor.digest for s in bundle.signatures}
    for descriptor, content in bundle.blobs:
        if descriptor.digest not in manifests and not remote.has_blob(descriptor):
            remote.put_blob(descriptor, content, _nobody)
    uncounted: list[Signature] = []
    for signature in bundle.signatures:
        raw = signature.manifest.raw
        if signature.tag:
            if remote.tagged(signature.tag) != signature.descriptor.digest:
                remote.put_document(signature.descriptor, raw, signature.tag)
        elif not remote.put_document(signature.descriptor, raw):
            uncounted.append(signature)
    if uncounted:
        _list_referrers(remote, image, uncounted)
    return len(bundle.signatures)


def _list_referrers(remote: Repository, image: Descriptor, added: Iterable[Signature]) -> None:
    """The referrers tag, which clients keep for registries that do not."""
    listed_before = listed_referrers(RemoteSignatures(remote), image.digest)
    entries = {d.digest: d for d in listed_before}
    before = len(entries)
    for signature in added:
        entries.setdefault(signature.descriptor.digest, listed(signature))
    if len(entries) == before:
        return
    raw = gojson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media.INDEX,
            "manifests": [d.to_json() for d in entries.values()],
        }
    )
    if len(raw) > limits.MAX_DOCUMENT:
        raise LimitError(f"{remote.name}: the list of referrers would become too large")
    parse_index(raw, remote.name)
    descriptor = Descriptor(media.INDEX, digests.of(raw), len(raw))
    remote.put_document(descriptor, raw, tag_of(image.digest))


def _nobody(_size: int) -> None:
    pass
