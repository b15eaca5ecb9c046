"""Signature envelopes of the Notary Project: JWS and COSE, with the signer's certificates.

Formats: notaryproject/specifications, "signature-envelope-jws" and "signature-envelope-cose".
"""

from __future__ import annotations

import base64
import datetime
from typing import TYPE_CHECKING, Any

from ig_py.errors import VerificationError
from ig_py.oci.document import load_json
from ig_py.oci.trust import certificates
from ig_py.oci.trust.model import MAX_SIGNATURE
from ig_py.records import dataclass

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

JWS = "application/jose+json"
COSE = "application/cose"
PAYLOAD = "application/vnd.cncf.notary.payload.v1+json"
SCHEME = "io.cncf.notary.signingScheme"
SIGNING_TIME = "io.cncf.notary.signingTime"
AUTHENTIC_TIME = "io.cncf.notary.authenticSigningTime"
EXPIRY = "io.cncf.notary.expiry"
TIMES = (SIGNING_TIME, AUTHENTIC_TIME, EXPIRY)
STORES = {"notary.x509": "ca", "notary.x509.signingAuthority": "signingAuthority"}
"""Signing scheme → the kind of trust store that has its anchors."""
_KNOWN = {"alg", "cty", "crit", SCHEME, *TIMES}
_ALGORITHMS = {
    "PS256": ("rsa", 2048), "PS384": ("rsa", 3072), "PS512": ("rsa", 4096),
    "ES256": ("ec", 256), "ES384": ("ec", 384), "ES512": ("ec", 521),
}  # fmt: skip
"""Algorithm → key type and size; the specification pairs them one to one."""


@dataclass(frozen=True)
class Parts:
    """An envelope taken apart, nothing checked. *protected*: headers by their JWS names, times
    as such; *chain*: DER, the signer first; *signed*: the bytes that *signature* is over.
    """

    protected: dict[str, Any]
    chain: list[bytes]
    payload: bytes
    signed: bytes
    signature: bytes


class Envelope:
    """An envelope whose signature fits its own certificate chain.

    Raises :class:`VerificationError`, :class:`IntegrityError`, :class:`LimitError`.
    """

    def __init__(self, raw: bytes, media_type: str = JWS) -> None:
        if media_type == COSE:
            from ig_py.oci.trust.cose import parse_cose

            parts = parse_cose(raw)
        else:
            parts = parse_jws(raw)
        protected = parts.protected
        self.chain = certificates.parse_chain(parts.chain)
        self.scheme = _text(protected.get(SCHEME), "signing scheme")
        if self.scheme not in STORES:
            raise VerificationError(f"signing scheme {self.scheme[:80]!r} is not known")
        self._check_critical(protected)
        algorithm = _text(protected.get("alg"), "alg")
        _check(self.chain[0], algorithm, parts.signature, parts.signed)
        if protected.get("cty") != PAYLOAD:
            raise VerificationError(f"payload of type {str(protected.get('cty'))[:80]!r}")
        self.payload = _object(load_json(parts.payload, "payload", MAX_SIGNATURE), "payload")
        self.expiry = protected.get(EXPIRY)
        self.authentic_time = None
        if self.scheme == "notary.x509.signingAuthority":
            self.authentic_time = protected.get(AUTHENTIC_TIME)
            if self.authentic_time is None:
                raise VerificationError("envelope: has no authentic signing time")
        elif protected.get(SIGNING_TIME) is None:
            raise VerificationError("envelope: has no signing time")

    def _check_critical(self, protected: dict[str, Any]) -> None:
        critical = protected.get("crit")
        if not isinstance(critical, list) or not all(isinstance(c, str) for c in critical):
            raise VerificationError("envelope: has no list of critical headers")
        needed = {SCHEME} | ({EXPIRY} & protected.keys())
        if self.scheme == "notary.x509.signingAuthority":
            needed.add(AUTHENTIC_TIME)
        if not needed <= set(critical):
            raise VerificationError("envelope: a header is not marked as critical")
        if unknown := set(critical) - _KNOWN:
            raise VerificationError(f"critical header {min(unknown)[:80]!r} is not known")
        if missing := set(critical) - protected.keys():
            raise VerificationError(f"critical header {min(missing)[:80]!r} is missing")


def parse_jws(raw: bytes) -> Parts:
    """A JWS in flattened JSON serialization; errors as :class:`Envelope`."""
    document = _object(load_json(raw, "envelope", MAX_SIGNATURE), "envelope")
    protected_text = _text(document.get("protected"), "protected")
    payload_text = _text(document.get("payload"), "payload")
    header = _object(document.get("header"), "header")
    protected = _object(load_json(_url64(protected_text), "protected header"), "protected")
    chain = header.get("x5c")
    if not isinstance(chain, list) or not all(isinstance(c, str) for c in chain):
        raise VerificationError("envelope: has no certificate chain")
    times = {key: _time(protected[key]) for key in TIMES if key in protected}
    return Parts(
        {**protected, **times},
        [_std64(c) for c in chain],
        _url64(payload_text),
        f"{protected_text}.{payload_text}".encode(),
        _url64(_text(document.get("signature"), "signature")),
    )


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


def _time(value: Any) -> datetime.datetime:
    try:
        parsed = datetime.datetime.fromisoformat(_text(value, "time"))
    except ValueError:
        raise VerificationError("envelope: a time is not understood") from None
    if parsed.tzinfo is None:
        raise VerificationError("envelope: a time without zone")
    return parsed
