"""JWS envelopes (RFC 7515, flattened JSON serialization) of the Notary Project."""

from __future__ import annotations

import base64
import datetime
from typing import Any

from ig_py.errors import VerificationError
from ig_py.oci.document import load_json
from ig_py.oci.trust.envelope_parts import TIMES, Parts, as_object, as_text
from ig_py.oci.trust.model import MAX_SIGNATURE


def parse_jws(raw: bytes) -> Parts:
    """Take a JWS envelope apart.

    Raises:
        VerificationError: A part is missing or malformed.
        IntegrityError: *raw* is no JSON.
        LimitError: *raw* is too large.
    """
    document = as_object(load_json(raw, "envelope", MAX_SIGNATURE), "envelope")
    protected_text = as_text(document.get("protected"), "protected")
    payload_text = as_text(document.get("payload"), "payload")
    header = as_object(document.get("header"), "header")
    protected = as_object(load_json(_url64(protected_text), "protected header"), "protected")
    chain = header.get("x5c")
    if not isinstance(chain, list) or not all(isinstance(c, str) for c in chain):
        raise VerificationError("envelope: has no certificate chain")
    times = {key: _time(protected[key]) for key in TIMES if key in protected}
    return Parts(
        {**protected, **times},
        [_std64(c) for c in chain],
        _url64(payload_text),
        f"{protected_text}.{payload_text}".encode(),
        _url64(as_text(document.get("signature"), "signature")),
    )


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
        parsed = datetime.datetime.fromisoformat(as_text(value, "time"))
    except ValueError:
        raise VerificationError("envelope: a time is not valid") from None
    if parsed.tzinfo is None:
        raise VerificationError("envelope: a time without zone")
    return parsed
