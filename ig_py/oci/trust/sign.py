"""Signs an image of the store in the formats of cosign, without a registry."""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Sequence
from typing import Any

from ig_py.errors import UsageError
from ig_py.oci import digest as digests
from ig_py.oci import gojson, media
from ig_py.oci.artifact import Descriptor
from ig_py.oci.reference import Reference
from ig_py.oci.store import Store
from ig_py.oci.trust import cosign, find, keys
from ig_py.oci.trust.bundle import local
from ig_py.oci.trust.model import (
    BUNDLE,
    COSIGN_ARTIFACT,
    MAX_SIGNATURE,
    MAX_SIGNATURES,
    SIGNATURE_ANNOTATION,
    SIMPLE_SIGNING,
    tag_of,
)
from ig_py.oci.trust.privatekeys import PrivateKey

FORMATS = ("tag", "referrer", "bundle")
"""A ``sha256-….sig`` tag, an OCI 1.1 referrer, a sigstore bundle (a referrer too)."""
_CONFIG = "application/vnd.oci.image.config.v1+json"
_EPOCH = "0001-01-01T00:00:00Z"

Blobs = list[tuple[Descriptor, bytes]]


def sign(
    reference: Reference, store: Store, key: PrivateKey, formats: Sequence[str] = ("tag",)
) -> Descriptor:
    """Sign the image stored as *reference*; returns its descriptor.

    Raises:
        UsageError: A format is not known.
        ImageNotFound: The store does not have the image.
        StoreError: The store cannot be read or written.
        IntegrityError: Content of the store is damaged.
        LimitError: Content of the store exceeds a limit.
    """
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f'unknown format "{name}"', remedy=f"use {', '.join(FORMATS)}")
    image = store.resolve(str(reference))
    makers = {"tag": _tagged, "referrer": _referrer, "bundle": _bundle}
    with store.ingest() as session:
        entries: list[tuple[Descriptor, str | None]] = []
        for name in dict.fromkeys(formats):
            blobs, entry = makers[name](reference, store, image, key)
            for descriptor, content in blobs:
                if not session.adopt(descriptor):
                    session.write(descriptor, [content])
            entries.append(entry)
        store.commit(session, entries)
    return image


def _tagged(
    reference: Reference, store: Store, image: Descriptor, key: PrivateKey
) -> tuple[Blobs, tuple[Descriptor, str | None]]:
    """A ``.sig`` tag; the manifest keeps the signatures of other keys, as cosign does."""
    tag = tag_of(image.digest, find.LEGACY)
    layer, blobs = _simple_signing(reference, image, key)
    layers = [*_others(store, image, tag, key)[: MAX_SIGNATURES - 1], layer]
    config = gojson.dumps(
        {
            "architecture": "",
            "created": _EPOCH,
            "history": [{"created": _EPOCH} for _ in layers],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [d.digest for d in layers]},
            "config": {},
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "config": _described(_CONFIG, config).to_json(),
        "layers": [d.to_json() for d in layers],
    }
    raw = gojson.dumps(manifest)
    root = _described(media.MANIFEST, raw)
    return [*blobs, (_described(_CONFIG, config), config), (root, raw)], (root, tag)


def _others(store: Store, image: Descriptor, tag: str, key: PrivateKey) -> list[Descriptor]:
    """Layers of the existing manifest that *key* did not sign."""
    source = local(store)
    found, _ = find.find(source, image)
    others = []
    for signature in found:
        if signature.tag != tag:
            continue
        for layer in signature.manifest.layers:
            payload = source.read(layer, MAX_SIGNATURE)
            made = cosign.decode(layer.annotations.get(SIGNATURE_ANNOTATION), "signature")
            if not key.public.verifies(made, payload):
                others.append(layer)
    return others


def _referrer(
    reference: Reference, _store: Store, image: Descriptor, key: PrivateKey
) -> tuple[Blobs, tuple[Descriptor, str | None]]:
    layer, blobs = _simple_signing(reference, image, key)
    config = b"{}"
    raw = _manifest(COSIGN_ARTIFACT, _described(COSIGN_ARTIFACT, config), layer, image, {})
    root = _described(media.MANIFEST, raw, COSIGN_ARTIFACT)
    blobs += [(_described(COSIGN_ARTIFACT, config), config), (root, raw)]
    return blobs, (root, None)


def _bundle(
    _reference: Reference, _store: Store, image: Descriptor, key: PrivateKey
) -> tuple[Blobs, tuple[Descriptor, str | None]]:
    algorithm, _, hexa = image.digest.partition(":")
    payload = gojson.dumps(
        {
            "_type": cosign.STATEMENTS[0],
            "subject": [{"digest": {algorithm: hexa}}],
            "predicateType": cosign.SIGN_PREDICATE,
            "predicate": {},
        }
    )
    hint = base64.b64encode(hashlib.sha256(keys.der(key.public.key)).digest()).decode()
    content = gojson.dumps(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": hint}},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": cosign.DSSE_PAYLOAD,
                "signatures": [
                    {"sig": base64.b64encode(key.sign(cosign.pae(cosign.DSSE_PAYLOAD, payload)))
                     .decode()}
                ],
            },
        }
    )  # fmt: skip
    layer, config = _described(BUNDLE, content), b"{}"
    empty = _described(media.EMPTY_CONFIG, config)
    notes = {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": cosign.SIGN_PREDICATE,
        media.CREATED: datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    raw = _manifest(BUNDLE, empty, layer, image, notes)
    root = _described(media.MANIFEST, raw, BUNDLE)
    return [(layer, content), (empty, config), (root, raw)], (root, None)


def _simple_signing(
    reference: Reference, image: Descriptor, key: PrivateKey
) -> tuple[Descriptor, Blobs]:
    payload = gojson.dumps(
        {
            "critical": {
                "identity": {"docker-reference": reference.repository},
                "image": {"docker-manifest-digest": image.digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    made = base64.b64encode(key.sign(payload)).decode()
    plain = _described(SIMPLE_SIGNING, payload)
    layer = Descriptor(plain.media_type, plain.digest, plain.size, {SIGNATURE_ANNOTATION: made})
    return layer, [(plain, payload)]


def _manifest(
    kind: str,
    config: Descriptor,
    layer: Descriptor,
    image: Descriptor,
    annotations: dict[str, str],
) -> bytes:
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "artifactType": kind,
        "config": config.to_json(),
        "layers": [layer.to_json()],
        "subject": Descriptor(image.media_type, image.digest, image.size).to_json(),
    }
    if annotations:
        document["annotations"] = gojson.sorted_map(annotations)
    return gojson.dumps(document)


def _described(media_type: str, content: bytes, kind: str = "") -> Descriptor:
    return Descriptor(media_type, digests.of(content), len(content), artifact_type=kind)
