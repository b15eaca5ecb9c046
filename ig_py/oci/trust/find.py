"""Finds an image's signatures: by tag, by the referrers API, or in ``index.json``.

Facts: docs/reference/image-format.md#signatures.
"""

from __future__ import annotations

from collections.abc import Sequence

from ig_py.errors import IgPyError, LimitError
from ig_py.oci import limits, media
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import Index, Manifest, parse_index, parse_manifest
from ig_py.oci.source import FileSource
from ig_py.oci.trust.model import (
    ARTIFACTS,
    COSIGN_ARTIFACT,
    MAX_SIGNATURE,
    MAX_SIGNATURES,
    Signature,
    SignatureSource,
    tag_of,
)

LEGACY = ".sig"


class LocalSignatures:
    """Signatures in a layout or archive whose ``index.json`` is *index*."""

    def __init__(self, source: FileSource, index: Index) -> None:
        self.name = source.name
        self._source = source
        self._entries = index.manifests

    def tagged(self, tag: str) -> Descriptor | None:
        for entry in self._entries:
            name = entry.annotations.get(media.REF_NAME, "")
            # Other tools write the repository before the tag.
            if name == tag or name.endswith(f":{tag}"):
                return entry
        return None

    def referrers(self, digest: str) -> Sequence[Descriptor]:
        listed = listed_referrers(self, digest)
        known = {d.digest for d in listed}  # and those that were read in vain
        for entry in self._entries:
            if entry.media_type != media.MANIFEST or entry.platform or entry.digest in known:
                continue
            if entry.size > MAX_SIGNATURE or not _may_sign(entry):
                continue
            known.add(entry.digest)
            try:
                manifest = parse_manifest(self.read(entry, MAX_SIGNATURE), self.name)
            except IgPyError:
                # The damaged document may belong to another image.
                continue
            if manifest.subject is not None and manifest.subject.digest == digest:
                listed.append(entry)
        return listed

    def read(self, descriptor: Descriptor, limit: int) -> bytes:
        return self._source.read(descriptor, limit)


def listed_referrers(source: SignatureSource, digest: str) -> list[Descriptor]:
    """Manifests in the referrers tag of *digest* (distribution specification 1.1)."""
    entry = source.tagged(tag_of(digest))
    if entry is None or entry.media_type != media.INDEX:
        return []
    raw = source.read(entry, limits.MAX_DOCUMENT)
    return list(parse_index(raw, f"{source.name}: referrers of {digest}").manifests)


def find(source: SignatureSource, image: Descriptor) -> tuple[list[Signature], list[str]]:
    """Signatures of *image*, and error texts of malformed ones.

    Raises:
        LimitError: There are more than :data:`MAX_SIGNATURES`.
        IgPyError: *source* cannot be asked.
    """
    found: list[Signature] = []
    wrong: list[str] = []
    tag = tag_of(image.digest, LEGACY)
    entry = source.tagged(tag)
    if entry is not None:
        try:
            found.append(Signature(COSIGN_ARTIFACT, entry, _manifest(source, entry), tag))
        except IgPyError as err:
            wrong.append(str(err))
    candidates = [d for d in source.referrers(image.digest) if _may_sign(d)]
    if len(candidates) > MAX_SIGNATURES:
        raise LimitError(f"{source.name}: more than {MAX_SIGNATURES} signatures of {image.digest}")
    for descriptor in candidates:
        try:
            manifest = _manifest(source, descriptor)
        except IgPyError as err:
            wrong.append(str(err))
            continue
        kind = manifest.artifact_type or manifest.config.media_type
        about = manifest.subject
        if kind in ARTIFACTS and (about is None or about.digest == image.digest):
            found.append(Signature(kind, descriptor, manifest))
    return found, wrong


def _may_sign(descriptor: Descriptor) -> bool:
    # Some tools put the config's media type into artifactType.
    return descriptor.artifact_type in ARTIFACTS | {"", media.EMPTY_CONFIG}


def _manifest(source: SignatureSource, descriptor: Descriptor) -> Manifest:
    what = f"{source.name}: signature {descriptor.digest}"
    manifest = parse_manifest(source.read(descriptor, MAX_SIGNATURE), what)
    if len(manifest.layers) > MAX_SIGNATURES:
        raise LimitError(f"{what}: more than {MAX_SIGNATURES} signatures")
    for part in (manifest.config, *manifest.layers):
        if part.size > MAX_SIGNATURE:
            raise LimitError(f"{what}: a part of {part.size} bytes")
    return manifest
