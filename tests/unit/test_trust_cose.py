"""COSE envelopes: CBOR read strictly, headers as the Notary Project has them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from ig_py.errors import IgPyError, IntegrityError, LimitError, VerificationError
from ig_py.oci.trust import cbor
from ig_py.oci.trust.envelope import COSE, Envelope

SCHEME, SIGNED, EXPIRY = (f"io.cncf.notary.{n}" for n in ("signingScheme", "signingTime", "expiry"))


def encode(value: Any) -> bytes:
    """A writer of its own, to be independent of the reader."""

    def start(major: int, number: int) -> bytes:
        if number < 24:
            return bytes([major * 32 + number])
        size = next(s for s in (1, 2, 4, 8) if number < 256**s)
        return bytes([major * 32 + 24 + (1, 2, 4, 8).index(size)]) + number.to_bytes(size, "big")

    if isinstance(value, bool) or value is None:
        return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
    if isinstance(value, int):
        return start(0, value) if value >= 0 else start(1, -1 - value)
    if isinstance(value, bytes):
        return start(2, len(value)) + value
    if isinstance(value, str):
        return start(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return start(4, len(value)) + b"".join(map(encode, value))
    if isinstance(value, dict):
        pairs = (encode(k) + encode(v) for k, v in value.items())
        return start(5, len(value)) + b"".join(pairs)
    return start(6, value.number) + encode(value.value)


KEY = ec.generate_private_key(ec.SECP256R1())


def certificate() -> bytes:
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signer")])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(True, *[False] * 8)
    return (
        x509.CertificateBuilder(who, who, KEY.public_key(), 1, now, now + datetime.timedelta(1))
        .add_extension(usage, critical=True)
        .sign(KEY, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


CERTIFICATE = certificate()


def envelope(
    protected: Callable[[dict[Any, Any]], None] = lambda _: None,
    whole: Callable[[list[Any]], None] = lambda _: None,
    tag: int = 18,
) -> bytes:
    header = {
        1: -7,
        2: [SCHEME],
        3: "application/vnd.cncf.notary.payload.v1+json",
        SCHEME: "notary.x509",
        SIGNED: cbor.Tag(1, 1_790_000_000),
    }
    protected(header)
    head, payload = encode(header), json.dumps({"targetArtifact": {"size": 1}}).encode()
    made = KEY.sign(encode(["Signature1", head, b"", payload]), ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(made)
    content = [head, {33: CERTIFICATE}, payload, r.to_bytes(32, "big") + s.to_bytes(32, "big")]
    whole(content)
    return encode(cbor.Tag(tag, content))


def expiring(header: dict[Any, Any]) -> None:
    header[EXPIRY] = cbor.Tag(1, 1_790_000_001)
    header[2].append(EXPIRY)


def test_good() -> None:
    found = Envelope(envelope(), COSE)
    assert found.payload == {"targetArtifact": {"size": 1}}
    assert found.scheme == "notary.x509" and found.expiry is None
    assert (
        len(Envelope(envelope(whole=lambda c: c[1].update({33: [CERTIFICATE]})), COSE).chain) == 1
    )
    assert Envelope(envelope(expiring), COSE).expiry == datetime.datetime(
        2026, 9, 21, 14, 13, 21, tzinfo=datetime.UTC
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"tag": 17}, "one signature"),
        ({"tag": 98}, "one signature"),
        ({"whole": lambda c: c.pop()}, "four parts"),
        ({"whole": lambda c: c.__setitem__(3, "x")}, "not bytes"),
        ({"whole": lambda c: c.__setitem__(2, None)}, "not bytes"),
        ({"whole": lambda c: c.__setitem__(1, [])}, "no map"),
        ({"whole": lambda c: c.__setitem__(0, encode([]))}, "no map"),
        ({"whole": lambda c: c[1].clear()}, "no certificate chain"),
        ({"whole": lambda c: c[1].update({33: ["x"]})}, "no certificate chain"),
        ({"whole": lambda c: c[1].update({33: b"x"})}, "not valid"),
        ({"whole": lambda c: c.__setitem__(2, b"{}")}, "not made with the certificate's key"),
        ({"whole": lambda c: c.__setitem__(3, bytes(64))}, "not made with the certificate's key"),
        ({"whole": lambda c: c.__setitem__(3, b"")}, "not made with the certificate's key"),
        ({"protected": lambda h: h.update({1: -37})}, "does not match the signer"),
        ({"protected": lambda h: h.update({1: "ES256"})}, "alg: missing"),
        ({"protected": lambda h: h.update({1: 5})}, "alg: missing"),
        ({"protected": lambda h: h.update({"alg": "none"})}, "'alg' twice"),
        ({"protected": lambda h: h.update({"crit": []})}, "'crit' twice"),
        ({"protected": lambda h: h.pop(2)}, "no list of critical"),
        ({"protected": lambda h: h.update({2: []})}, "not marked as critical"),
        ({"protected": lambda h: h[2].append(7)}, "'7' is not known"),
        ({"protected": lambda h: h.update({EXPIRY: cbor.Tag(1, 5)})}, "not marked as critical"),
        ({"protected": lambda h: h.update({3: 50})}, "payload of type"),
        ({"protected": lambda h: h.pop(SIGNED)}, "no signing time"),
        ({"protected": lambda h: h.update({SIGNED: 5})}, "time is not valid"),
        ({"protected": lambda h: h.update({SIGNED: cbor.Tag(1, True)})}, "time is not"),
        ({"protected": lambda h: h.update({SIGNED: cbor.Tag(1, 1 << 63)})}, "time is not"),
        ({"protected": lambda h: h.update({SCHEME: 1})}, "signing scheme"),
    ],
)
def test_bad(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(VerificationError, match=reason):
        Envelope(envelope(**arguments), COSE)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        # RFC 8949, appendix A
        ("1bffffffffffffffff", (1 << 64) - 1), ("3903e7", -1000), ("f4", False), ("f6", None),
        ("c11a514b67b0", cbor.Tag(1, 1363896240)), ("4401020304", b"\1\2\3\4"),
        ("64f0908591", "\U00010151"), ("8301820203820405", [1, [2, 3], [4, 5]]),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}), ("a201020304", {1: 2, 3: 4}),
    ],
)  # fmt: skip
def test_cbor(raw: str, value: Any) -> None:
    assert cbor.load(bytes.fromhex(raw), "x") == value
    assert encode(value) == bytes.fromhex(raw)


@pytest.mark.parametrize(
    "raw",
    [
        "", "18", "1bff", "5f4101ff", "9fff", "bfff", "ff", "f97e00", "fb3ff199999999999a", "f7",
        "f820", "62c328", "a201020103", "a1f401", "a1410101", "0000", "9bffffffffffffffff",
        "5bffffffffffffffff", "bbffffffffffffffff00", "1c",
    ],
)  # fmt: skip
def test_cbor_that_is_refused(raw: str) -> None:
    with pytest.raises(IntegrityError):
        cbor.load(bytes.fromhex(raw), "x")


def test_cbor_without_bounds() -> None:
    for raw in (b"\x81" * 100_000, b"\xc1" * 100_000, b"\x99\xff\xff" + b"\0" * 70_000):
        with pytest.raises(LimitError):
            cbor.load(raw, "x")


def test_names_that_cannot_be_read() -> None:
    """The library notices only when it is asked for the subject."""
    odd = CERTIFICATE.replace(b"\x0c\x06signer", b"\x03\x06signer")
    with pytest.raises(VerificationError, match="not valid"):
        Envelope(envelope(whole=lambda c: c[1].update({33: odd})), COSE)


def test_any_byte_may_be_wrong() -> None:
    good = envelope()
    for position in range(0, len(good), 3):
        for bit in (1, 0x40, 0x80):
            bad = good[:position] + bytes([good[position] ^ bit]) + good[position + 1 :]
            with pytest.raises(IgPyError):
                Envelope(bad, COSE)
