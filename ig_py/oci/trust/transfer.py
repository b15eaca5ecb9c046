"""Pull and push of an image's signatures: between the store and a registry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ig_py.errors import IgPyError, LimitError, RegistryNotFound
from ig_py.oci import digest as digests
from ig_py.oci import gojson, limits, media
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import parse_index
from ig_py.oci.mirrors import pull_order
from ig_py.oci.reference import Reference
from ig_py.oci.registry import RegistryOptions, Repository
from ig_py.oci.store import Store
from ig_py.oci.trust.bundle import collect, listed, local
from ig_py.oci.trust.find import listed_referrers
from ig_py.oci.trust.model import Signature, tag_of


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
        # The referrers API omits manifests that were pushed before the registry had it.
        return found + [d for d in listed_referrers(self, digest) if d.digest not in known]

    def read(self, descriptor: Descriptor, limit: int) -> bytes:
        return self._remote.read(descriptor, limit)


def pull_signatures(
    reference: Reference, image: Descriptor, store: Store, options: RegistryOptions
) -> int:
    """Add the image's signatures from its mirrors or its registry to the store; their number.

    A mirror without signatures is passed over: it may have the image all the same.

    Raises:
        RegistryError: The registry, the last to be asked, cannot be reached or refuses.
        IntegrityError: It sends something malformed.
        LimitError: It has too many signatures.
        StoreError: The store cannot be written.
    """
    order = pull_order(reference)
    for location in order:
        try:
            with Repository(location, options) as remote:
                bundle = collect(RemoteSignatures(remote), image)
        except IgPyError:
            if location is order[-1]:
                raise
            continue
        if bundle.signatures:
            with store.ingest() as session:
                bundle.stage(session)
                store.commit(session, bundle.entries())
            return len(bundle.signatures)
    return 0


def push_signatures(remote: Repository, store: Store, image: Descriptor) -> int:
    """Push the image's signatures of the store to the image's repository; their number."""
    bundle = collect(local(store), image)
    manifests = {s.descriptor.digest for s in bundle.signatures}
    for descriptor, content in bundle.blobs:
        if descriptor.digest not in manifests and not remote.has_blob(descriptor):
            remote.put_blob(descriptor, content, _ignore)
    unlisted: list[Signature] = []
    for signature in bundle.signatures:
        raw = signature.manifest.raw
        if signature.tag:
            if remote.tagged(signature.tag) != signature.descriptor.digest:
                remote.put_document(signature.descriptor, raw, signature.tag)
        elif not remote.put_document(signature.descriptor, raw):
            unlisted.append(signature)
    if unlisted:
        _list_referrers(remote, image, unlisted)
    return len(bundle.signatures)


def _list_referrers(remote: Repository, image: Descriptor, added: Iterable[Signature]) -> None:
    """Add signatures to the referrers tag, for a registry without the referrers API.

    Distribution specification 1.1, "Unavailable Referrers API".
    """
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


def _ignore(_size: int) -> None:
    pass
