"""Cosign's signatures made with keys: a signed payload that names the image's digest."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from ig_py.errors import VerificationError
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import load_json
from ig_py.oci.trust.keys import PublicKey
from ig_py.oci.trust.model import (
    BUNDLE,
    MAX_SIGNATURE,
    SIGNATURE_ANNOTATION,
    SIMPLE_SIGNING,
    Signature,
    SignatureSource,
    Verdict,
)

DSSE_PAYLOAD = "application/vnd.in-toto+json"
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")


def verify(
    source: SignatureSource, signature: Signature, image: Descriptor, keys: Sequence[PublicKey]
) -> Verdict:
    """Check one signature manifest: any of its signatures by any of *keys* is enough.

    Raises:
        VerificationError: No signature is valid.
        IgPyError: *source* cannot be read.
    """
    layers = signature.manifest.layers
    if signature.kind == BUNDLE:
        wanted = [d for d in layers if d.media_type == BUNDLE][:1]
    else:
        wanted = [d for d in layers if d.media_type == SIMPLE_SIGNING]
    if not wanted:
        raise VerificationError(f"{signature.descriptor.digest}: holds no signature")
    reasons = []
    for layer in wanted:
        content = source.read(layer, MAX_SIGNATURE)
        try:
            if signature.kind == BUNDLE:
                return Verdict(check_bundle(content, image, keys), "sigstore bundle")
            made = decode(layer.annotations.get(SIGNATURE_ANNOTATION, ""), "signature")
            key = check_payload(content, made, image, keys)
            return Verdict(key, "cosign tag" if signature.tag else "cosign referrer")
        except VerificationError as err:
            reasons.append(err.message)
    raise VerificationError("; ".join(dict.fromkeys(reasons)))


def check_payload(
    payload: bytes, signature: bytes, image: Descriptor, keys: Sequence[PublicKey]
) -> str:
    """Verify a simple-signing payload; returns the key's id."""
    key = _signer(payload, signature, keys)
    document = _parsed(payload, "signed payload")
    named = _at(document, "critical", "image", "docker-manifest-digest")
    if named != image.digest:
        raise VerificationError(_other_image(named, image))
    return key


def check_bundle(raw: bytes, image: Descriptor, keys: Sequence[PublicKey]) -> str:
    """Verify a sigstore bundle: an in-toto statement in a DSSE envelope; returns the key's id."""
    bundle = _parsed(raw, "bundle")
    if _at(bundle, "mediaType") != BUNDLE:
        raise VerificationError("bundle: its version is not 0.3")
    envelope = _at(bundle, "dsseEnvelope")
    if not isinstance(envelope, dict):
        raise VerificationError("bundle: holds no DSSE envelope")
    made = envelope.get("signatures")
    if not isinstance(made, list) or len(made) != 1:
        raise VerificationError("bundle: does not hold exactly one signature")
    payload = decode(envelope.get("payload"), "bundle's payload")
    kind = envelope.get("payloadType")
    if kind != DSSE_PAYLOAD:
        raise VerificationError(f"bundle: payload of type {str(kind)[:80]!r}")
    key = _signer(pae(kind, payload), decode(_at(made[0], "sig"), "bundle's signature"), keys)
    statement = _parsed(payload, "statement")
    if _at(statement, "_type") not in STATEMENTS:
        raise VerificationError("statement: its type is unknown")
    # The key may have signed another statement about the image, such as an SBOM.
    if _at(statement, "predicateType") != SIGN_PREDICATE:
        predicate = str(_at(statement, "predicateType"))[:100]
        raise VerificationError(
            f"statement: its predicate is {predicate!r}, not an image signature"
        )
    subjects = _at(statement, "subject")
    algorithm, _, hexa = image.digest.partition(":")
    named = [_at(s, "digest", algorithm) for s in subjects] if isinstance(subjects, list) else []
    if hexa not in named:
        raise VerificationError(_other_image(named[0] if named else None, image))
    return key


def pae(kind: str, payload: bytes) -> bytes:
    """The bytes that DSSE signs: its pre-authentication encoding."""
    name = kind.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def decode(text: Any, what: str) -> bytes:
    """Standard base64; *what* names it in errors.

    Raises:
        VerificationError: *text* is something else.
    """
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        raw = b""
    if not raw:
        raise VerificationError(f"{what}: missing or not base64")
    return raw


def _signer(data: bytes, signature: bytes, keys: Sequence[PublicKey]) -> str:
    for key in keys:
        if key.verifies(signature, data):
            return key.id
    count = f"the {len(keys)} given keys" if len(keys) > 1 else f"the given key {keys[0].id[:16]}…"
    raise VerificationError(f"the image was not signed by {count}")


def _parsed(raw: bytes, what: str) -> Any:
    return load_json(raw, what, MAX_SIGNATURE)


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _other_image(named: Any, image: Descriptor) -> str:
    return (
        "payload digest does not correspond to image: "
        f"expected {image.digest}, got {str(named)[:100]}"
    )
