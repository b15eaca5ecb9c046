"""Signatures that cosign and notation made (tests/wire/data/signatures.json), verified by us."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from support import trust
from support.images import name

from ig_py.errors import VerificationError
from ig_py.oci.artifact import Descriptor
from ig_py.oci.options import ResolveOptions
from ig_py.oci.store import Store
from ig_py.resolver import verify

DATA = json.loads((Path(__file__).parent / "data" / "signatures.json").read_text())
BLOBS = {d: base64.b64decode(content) for d, content in DATA["blobs"].items()}
IMAGE = Descriptor(DATA["media_type"], DATA["image"], len(BLOBS[DATA["image"]]))
FORMATS = {"tag": "cosign tag", "referrer": "cosign referrer", "bundle": "sigstore bundle",
           "jws": "notation", "cose": "notation"}  # fmt: skip
# The certificate that notation made for tests was good for a day.
POLICY = {
    "version": "1.0",
    "trustPolicies": [
        {
            "name": "p",
            "registryScopes": ["*"],
            "signatureVerification": {"level": "permissive"},
            "trustStores": ["ca:mine"],
            "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Notary"],
        }
    ],
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "store")
    trust.put(store, IMAGE, BLOBS, name("x:1"))
    return store


def attach(store: Store, row: dict[str, Any], change: Any = lambda blobs: blobs) -> None:
    raw = base64.b64decode(row["manifest"]["raw"])
    blobs = [b"{}", *change([base64.b64decode(b) for b in row["blobs"]]), raw]
    root = Descriptor(row["manifest"]["type"], trust.digest(raw), len(raw))
    trust.put(store, root, {trust.digest(b): b for b in blobs}, row["manifest"]["tag"] or None)


def options(store: Store, key: str, policy: Any = POLICY) -> ResolveOptions:
    given: dict[str, Any] = {"public_keys": (DATA["keys"][key],)}
    if key == "notation":
        given = {
            "public_keys": (),
            "notation_certificates": (DATA["keys"][key],),
            "notation_policy": json.dumps(policy),
        }
    return ResolveOptions(arch="amd64", store=store, pull="never", disallow_pulling=True, **given)


@pytest.mark.parametrize("row", DATA["rows"])
def test_signatures_of_others(store: Store, row: str) -> None:
    with pytest.raises(VerificationError, match="signature not found"):
        verify("x:1", options(store, "p256"))
    attach(store, DATA["rows"][row])
    verdict = verify("x:1", options(store, DATA["rows"][row]["key"]))
    assert verdict.format == FORMATS[row.split("-")[1]]
    for key in DATA["keys"].keys() - {DATA["rows"][row]["key"]}:
        with pytest.raises(VerificationError):
            verify("x:1", options(store, key))


@pytest.mark.parametrize("row", DATA["rows"])
def test_for_another_image(store: Store, row: str) -> None:
    """The same signature below another image's digest: what was signed is another digest."""
    raw = BLOBS[DATA["image"]].replace(b'"schemaVersion":2', b'"schemaVersion": 2', 1)
    other = Descriptor(IMAGE.media_type, trust.digest(raw), len(raw))
    trust.put(store, other, {**BLOBS, other.digest: raw}, name("y:1"))
    moved = json.loads(json.dumps(DATA["rows"][row]))
    manifest = json.loads(base64.b64decode(moved["manifest"]["raw"]))
    if "subject" in manifest:
        manifest["subject"] |= {"digest": other.digest, "size": other.size}
    moved["manifest"]["raw"] = base64.b64encode(json.dumps(manifest).encode()).decode()
    if moved["manifest"]["tag"]:
        moved["manifest"]["tag"] = trust.sig_tag(other)
    attach(store, moved)
    with pytest.raises(VerificationError, match="digest does not correspond"):
        verify("y:1", options(store, moved["key"]))


@pytest.mark.parametrize("row", ["notation-jws", "notation-cose"])
def test_the_certificate_has_expired(store: Store, row: str) -> None:
    attach(store, DATA["rows"][row])
    policy = json.loads(json.dumps(POLICY))
    checking = policy["trustPolicies"][0]["signatureVerification"]
    checking["override"] = {"authenticTimestamp": "enforce"}
    if _expired():
        with pytest.raises(VerificationError, match="expired on"):
            verify("x:1", options(store, "notation", policy))
    else:
        assert verify("x:1", options(store, "notation", policy))


def _expired() -> bool:
    import datetime

    from cryptography.x509 import load_pem_x509_certificate

    certificate = load_pem_x509_certificate(DATA["keys"]["notation"].encode())
    return certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC)
