"""Signatures of the Notary Project: a JWS with a certificate chain, judged by a trust policy.

Formats: notaryproject/specifications, "signature-envelope-jws" and "trust-store-trust-policy".
Revocation lists and time stamp authorities are not asked: a policy that insists on them
(level ``strict`` and a certificate that names a list) fails.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ig_py.errors import IntegrityError, LimitError, VerificationError
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import load_json
from ig_py.oci.trust import certificates, trustpolicy
from ig_py.oci.trust.model import MAX_SIGNATURE, Signature, SignatureSource, Verdict

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

JWS = "application/jose+json"
COSE = "application/cose"
PAYLOAD = "application/vnd.cncf.notary.payload.v1+json"
_SCHEME = "io.cncf.notary.signingScheme"
_SIGNING_TIME = "io.cncf.notary.signingTime"
_AUTHENTIC_TIME = "io.cncf.notary.authenticSigningTime"
_EXPIRY = "io.cncf.notary.expiry"
_KNOWN = {"alg", "cty", "crit", _SCHEME, _SIGNING_TIME, _AUTHENTIC_TIME, _EXPIRY}
_STORES = {"notary.x509": "ca", "notary.x509.signingAuthority": "signingAuthority"}
_ALGORITHMS = {
    "PS256": ("rsa", 2048), "PS384": ("rsa", 3072), "PS512": ("rsa", 4096),
    "ES256": ("ec", 256), "ES384": ("ec", 384), "ES512": ("ec", 521),
}  # fmt: skip
"""JWS algorithm → key type and size; the specification pairs them one to one."""


class Notation:
    """*trusted*: certificates (PEM texts or files), the content of the one trust store that
    the *policy* (JSON text or file) may name. Raises :class:`UsageError`.
    """

    def __init__(self, trusted: Sequence[str], policy: str) -> None:
        self._trusted = certificates.load_trusted(trusted)
        self._policies = trustpolicy.load(policy)

    def verify(
        self, source: SignatureSource, signature: Signature, image: Descriptor, repository: str
    ) -> Verdict:
        """Check one signature manifest. Raises :class:`VerificationError`."""
        policy = trustpolicy.select(self._policies, repository)
        if policy.actions["integrity"] == trustpolicy.SKIP:
            return Verdict(f"nobody: trust policy {policy.name!r} skips verification", "notation")
        layers = signature.manifest.layers
        if len(layers) != 1:
            raise VerificationError("notation signature: does not have exactly one layer")
        if layers[0].media_type != JWS:
            known = "COSE envelopes are" if layers[0].media_type == COSE else "its envelope is"
            raise VerificationError(f"notation signature: {known} not supported, only JWS")
        try:
            envelope = Envelope(source.read(layers[0], MAX_SIGNATURE))
            self._check_target(envelope, image)
        except (IntegrityError, LimitError, ValueError) as err:
            raise VerificationError(f"notation signature: {err}") from err
        for aspect, reason in self._doubts(envelope, policy):
            if policy.actions[aspect] == trustpolicy.ENFORCE:
                raise VerificationError(
                    f"notation signature: {aspect}: {reason} (trust policy {policy.name!r})"
                )
        signer = envelope.chain[0].subject.rfc4514_string()[:200]
        return Verdict(signer, "notation")

    def _check_target(self, envelope: Envelope, image: Descriptor) -> None:
        target = envelope.payload.get("targetArtifact")
        fields = target if isinstance(target, dict) else {}
        named = (fields.get("digest"), fields.get("size"), fields.get("mediaType"))
        if named != (image.digest, image.size, image.media_type):
            raise VerificationError(
                "notation signature: payload digest does not correspond to image: "
                f"expected {image.digest}, got {str(named[0])[:100]}"
            )

    def _doubts(self, envelope: Envelope, policy: trustpolicy.Policy) -> list[tuple[str, str]]:
        """(aspect, reason) of what is not as it should be."""
        now = datetime.datetime.now(datetime.UTC)
        doubts = []
        store = _STORES[envelope.scheme]
        anchors = self._trusted if policy.store_type == store else []
        if not any(anchor == one for anchor in anchors for one in envelope.chain):
            reason = "the certificate chain leads to no trusted certificate"
            doubts.append(("authenticity", reason))
        elif not policy.trusts(certificates.subject(envelope.chain[0])):
            signer = envelope.chain[0].subject.rfc4514_string()[:200]
            doubts.append(("authenticity", f"{signer!r} is none of the trusted identities"))
        authentic = envelope.authentic_time or now
        if reason := certificates.valid_at(envelope.chain, authentic):
            doubts.append(("authenticTimestamp", reason))
        if envelope.expiry is not None and now > envelope.expiry:
            doubts.append(("expiry", f"the signature expired on {envelope.expiry}"))
        if certificates.revocable(envelope.chain):
            doubts.append(("revocation", "revocation lists are not asked by this version"))
        return doubts


class Envelope:
    """A JWS whose signature fits its own certificate chain.

    Raises :class:`VerificationError`, :class:`IntegrityError`, :class:`LimitError`.
    """

    def __init__(self, raw: bytes) -> None:
        document = _object(load_json(raw, "envelope", MAX_SIGNATURE), "envelope")
        protected_text = _text(document.get("protected"), "protected")
        payload_text = _text(document.get("payload"), "payload")
        header = _object(document.get("header"), "header")
        protected = _object(load_json(_url64(protected_text), "protected header"), "protected")
        chain = header.get("x5c")
        if not isinstance(chain, list) or not all(isinstance(c, str) for c in chain):
            raise VerificationError("envelope: has no certificate chain")
        self.chain = certificates.parse_chain([_std64(c) for c in chain])
        self.scheme = _text(protected.get(_SCHEME), "signing scheme")
        if self.scheme not in _STORES:
            raise VerificationError(f"signing scheme {self.scheme[:80]!r} is not known")
        self._check_critical(protected)
        algorithm = _text(protected.get("alg"), "alg")
        signature = _url64(_text(document.get("signature"), "signature"))
        _check(self.chain[0], algorithm, signature, f"{protected_text}.{payload_text}".encode())
        if protected.get("cty") != PAYLOAD:
            raise VerificationError(f"payload of type {str(protected.get('cty'))[:80]!r}")
        self.payload = _object(load_json(_url64(payload_text), "payload"), "payload")
        self.expiry = _time(protected.get(_EXPIRY))
        self.authentic_time = None
        if self.scheme == "notary.x509.signingAuthority":
            self.authentic_time = _time(protected.get(_AUTHENTIC_TIME))
            if self.authentic_time is None:
                raise VerificationError("envelope: has no authentic signing time")
        elif _time(protected.get(_SIGNING_TIME)) is None:
            raise VerificationError("envelope: has no signing time")

    def _check_critical(self, protected: dict[str, Any]) -> None:
        critical = protected.get("crit")
        if not isinstance(critical, list) or not all(isinstance(c, str) for c in critical):
            raise VerificationError("envelope: has no list of critical headers")
        needed = {_SCHEME} | ({_EXPIRY} & protected.keys())
        if self.scheme == "notary.x509.signingAuthority":
            needed.add(_AUTHENTIC_TIME)
        if not needed <= set(critical):
            raise VerificationError("envelope: a header is not marked as critical")
        if unknown := set(critical) - _KNOWN:
            raise VerificationError(f"critical header {min(unknown)[:80]!r} is not known")
        if missing := set(critical) - protected.keys():
            raise VerificationError(f"critical header {min(missing)[:80]!r} is missing")


def _check(certificate: Certificate, algorithm: str, signature: bytes, data: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    key = certificate.public_key()
    kind = "rsa" if isinstance(key, rsa.RSAPublicKey) else "ec"
    if _ALGORITHMS.get(algorithm) != (kind, getattr(key, "key_size", 0)):
        raise VerificationError(f"algorithm {algorithm[:40]!r} does not go with the signer's key")
    bits = algorithm[2:]
    digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[bits]
    try:
        if isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
            key.verify(signature, data, pss, digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            half = (key.key_size + 7) // 8
            if len(signature) != 2 * half:
                raise InvalidSignature
            r, s = (int.from_bytes(signature[i : i + half], "big") for i in (0, half))
            key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))
    except InvalidSignature:
        raise VerificationError("the signature does not fit its certificate") from None


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise VerificationError(f"{what}: not a JSON object")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise VerificationError(f"{what}: missing or not a string")
    return value


def _url64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise VerificationError("envelope: not base64url") from None


def _std64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise VerificationError("certificate chain: not base64") from None


def _time(value: Any) -> datetime.datetime | None:
    if value is None:
        return None
    try:
        parsed = datetime.datetime.fromisoformat(_text(value, "time"))
    except ValueError:
        raise VerificationError("envelope: a time is not understood") from None
    if parsed.tzinfo is None:
        raise VerificationError("envelope: a time without zone")
    return parsed
