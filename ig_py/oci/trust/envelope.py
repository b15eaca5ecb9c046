"""Signature envelopes of the Notary Project, checked against their own certificate chain.

Formats: notaryproject/specifications, "signature-envelope-jws" and "signature-envelope-cose".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ig_py.errors import VerificationError
from ig_py.oci.document import load_json
from ig_py.oci.trust import certificates
from ig_py.oci.trust.envelope_parts import (
    AUTHENTIC_TIME,
    EXPIRY,
    SCHEME,
    SIGNING_TIME,
    TIMES,
    as_object,
    as_text,
)
from ig_py.oci.trust.model import MAX_SIGNATURE

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

JWS = "application/jose+json"
COSE = "application/cose"
PAYLOAD = "application/vnd.cncf.notary.payload.v1+json"
STORES = {"notary.x509": "ca", "notary.x509.signingAuthority": "signingAuthority"}
"""Signing scheme → type of the trust store with its anchors."""
_KNOWN = {"alg", "cty", "crit", SCHEME, *TIMES}
_ALGORITHMS = {
    "PS256": ("rsa", 2048), "PS384": ("rsa", 3072), "PS512": ("rsa", 4096),
    "ES256": ("ec", 256), "ES384": ("ec", 384), "ES512": ("ec", 521),
}  # fmt: skip
"""Algorithm → key type and size, as the specification pairs them."""


class Envelope:
    """An envelope with a valid signature by the first certificate of its own chain.

    Raises:
        VerificationError: The signature does not hold, or a header is missing, unknown or wrong.
        IntegrityError: A document in it is malformed.
        LimitError: A document in it exceeds a limit.
    """

    def __init__(self, raw: bytes, media_type: str = JWS) -> None:
        if media_type == COSE:
            from ig_py.oci.trust.cose import parse_cose

            parts = parse_cose(raw)
        else:
            from ig_py.oci.trust.jws import parse_jws

            parts = parse_jws(raw)
        protected = parts.protected
        self.chain = certificates.parse_chain(parts.chain)
        self.scheme = as_text(protected.get(SCHEME), "signing scheme")
        if self.scheme not in STORES:
            raise VerificationError(f"signing scheme {self.scheme[:80]!r} is not known")
        self._check_critical(protected)
        algorithm = as_text(protected.get("alg"), "alg")
        _check(self.chain[0], algorithm, parts.signature, parts.signed)
        if protected.get("cty") != PAYLOAD:
            raise VerificationError(f"payload of type {str(protected.get('cty'))[:80]!r}")
        self.payload = as_object(load_json(parts.payload, "payload", MAX_SIGNATURE), "payload")
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


def _check(certificate: Certificate, algorithm: str, signature: bytes, data: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    key = certificate.public_key()
    kind = "rsa" if isinstance(key, rsa.RSAPublicKey) else "ec"
    if _ALGORITHMS.get(algorithm) != (kind, getattr(key, "key_size", 0)):
        raise VerificationError(f"algorithm {algorithm[:40]!r} does not match the signer's key")
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
        raise VerificationError("the signature was not made with the certificate's key") from None
