"""A Notary Project envelope taken apart, whether JWS or COSE, before anything is verified."""

from __future__ import annotations

from typing import Any

from ig_py.errors import VerificationError
from ig_py.records import dataclass

SCHEME = "io.cncf.notary.signingScheme"
SIGNING_TIME = "io.cncf.notary.signingTime"
AUTHENTIC_TIME = "io.cncf.notary.authenticSigningTime"
EXPIRY = "io.cncf.notary.expiry"
TIMES = (SIGNING_TIME, AUTHENTIC_TIME, EXPIRY)


@dataclass(frozen=True)
class Parts:
    """The parts of an envelope, unverified.

    Attributes:
        protected: Protected headers by their JWS names; times are ``datetime`` objects.
        chain: Certificates in DER, the signer's first.
        payload: The signed document.
        signed: The bytes that *signature* is over.
        signature: As the algorithm encodes it in JWS (RFC 7518).
    """

    protected: dict[str, Any]
    chain: list[bytes]
    payload: bytes
    signed: bytes
    signature: bytes


def as_object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise VerificationError(f"{what}: not a JSON object")
    return value


def as_text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise VerificationError(f"{what}: missing or not a string")
    return value
