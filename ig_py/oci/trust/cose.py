"""COSE envelopes (RFC 9052, COSE_Sign1) of the Notary Project."""

from __future__ import annotations

import datetime
from typing import Any

from ig_py.errors import VerificationError
from ig_py.oci.trust import cbor
from ig_py.oci.trust.envelope_parts import TIMES, Parts

SIGN1 = 18
_EPOCH_TIME = 1
_ALGORITHM, _CRITICAL, _CONTENT_TYPE, _CHAIN = 1, 2, 3, 33
_LABELS = {_ALGORITHM: "alg", _CRITICAL: "crit", _CONTENT_TYPE: "cty"}
_ALGORITHMS = {
    -37: "PS256", -38: "PS384", -39: "PS512", -7: "ES256", -35: "ES384", -36: "ES512",
}  # fmt: skip


def parse_cose(raw: bytes) -> Parts:
    """Take a COSE_Sign1 envelope apart; headers get the names that JWS has for them.

    Raises:
        VerificationError: It is not such an envelope.
        IntegrityError: Its CBOR is malformed.
        LimitError: Its CBOR has too many items, or they are nested too deeply.
    """
    tagged = cbor.load(raw, "envelope")
    if not isinstance(tagged, cbor.Tag) or tagged.number != SIGN1:
        raise VerificationError("envelope: not a COSE message with one signature")
    content = tagged.value
    if not isinstance(content, list) or len(content) != 4:
        raise VerificationError("envelope: not of four parts")
    head, unprotected, payload, signature = content
    if not all(isinstance(part, bytes) for part in (head, payload, signature)):
        raise VerificationError("envelope: a part that is not bytes")
    protected = cbor.load(head, "protected header")
    if not isinstance(protected, dict) or not isinstance(unprotected, dict):
        raise VerificationError("envelope: headers that are no map")
    chain = unprotected.get(_CHAIN)
    certificates = [chain] if isinstance(chain, bytes) else chain
    if not isinstance(certificates, list) or not all(isinstance(c, bytes) for c in certificates):
        raise VerificationError("envelope: has no certificate chain")
    return Parts(_named(protected), certificates, payload, _to_be_signed(head, payload), signature)


def _to_be_signed(head: bytes, payload: bytes) -> bytes:
    """Sig_structure of RFC 9052 §4.4, without external data."""
    context = b"Signature1"
    texts = (cbor.head(3, len(context)) + context, cbor.head(2, len(head)) + head,
             cbor.head(2, 0), cbor.head(2, len(payload)) + payload)  # fmt: skip
    return cbor.head(4, len(texts)) + b"".join(texts)


def _named(protected: dict[int | str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for label, value in protected.items():
        name = _label(label)
        if name in found:
            raise VerificationError(f"envelope: header {name[:80]!r} twice")
        found[name] = value
    found["alg"] = _ALGORITHMS.get(found["alg"]) if isinstance(found.get("alg"), int) else None
    if isinstance(found.get("crit"), list):
        found["crit"] = [_label(label) for label in found["crit"]]
    for key in TIMES:
        if key in found:
            found[key] = _time(found[key])
    return found


def _label(label: Any) -> str:
    return _LABELS.get(label, str(label)) if isinstance(label, int) else str(label)


def _time(value: Any) -> datetime.datetime:
    if isinstance(value, cbor.Tag) and value.number == _EPOCH_TIME and type(value.value) is int:
        try:
            return datetime.datetime.fromtimestamp(value.value, datetime.UTC)
        except (OverflowError, ValueError, OSError):
            pass
    raise VerificationError("envelope: a time is not valid")
