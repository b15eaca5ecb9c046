"""Notation's signatures: envelopes and certificates made by openssl."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import trust
from support.images import image, name

from ig_py.errors import UsageError, VerificationError
from ig_py.oci.options import ResolveOptions
from ig_py.oci.store import Store
from ig_py.oci.trust import certificates, revocation, trustpolicy
from ig_py.resolver import resolve, verify

pytestmark = pytest.mark.needs("openssl")

ROOT = image("a").index
LEAF = "keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n"
AUTHORITY = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
SUBJECT = "/C=US/ST=WA/O=Gadgets/CN=signer"


def request(folder: Path, who: str, subject: str, key: list[str] | str) -> None:
    """*key*: what kind to make, or whose to use: making RSA keys takes long."""
    (folder / f"{who}.key").write_bytes(
        (folder / f"{key}.key").read_bytes()
        if isinstance(key, str)
        else trust.openssl("genpkey", *key)
    )
    trust.openssl(
        "req", "-new", "-key", str(folder / f"{who}.key"), "-subj", subject,
        "-out", str(folder / f"{who}.csr"),
    )  # fmt: skip


def certify(folder: Path, who: str, issuer: str, extensions: str, days: int = 2) -> None:
    (folder / f"{who}.ext").write_text(extensions)
    by = (
        ["-signkey", str(folder / f"{who}.key")]
        if issuer == who
        else ["-CA", str(folder / f"{issuer}.pem"), "-CAkey", str(folder / f"{issuer}.key"),
              "-CAcreateserial"]
    )  # fmt: skip
    trust.openssl(
        "x509", "-req", "-in", str(folder / f"{who}.csr"), *by, "-days", str(days),
        "-extfile", str(folder / f"{who}.ext"), "-out", str(folder / f"{who}.pem"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    rsa, ec = trust.KINDS["rsa"], trust.KINDS["p256"]
    request(folder, "ca", "/CN=authority", rsa)
    certify(folder, "ca", "ca", AUTHORITY)
    request(folder, "stranger", "/CN=stranger", ec)
    certify(folder, "stranger", "stranger", AUTHORITY)
    for who, key in (("leaf", rsa), ("ecleaf", ec)):
        request(folder, who, SUBJECT, key)
        certify(folder, who, "ca", LEAF)
    request(folder, "alone", SUBJECT, "leaf")
    certify(folder, "alone", "alone", LEAF)
    for who, extensions in {
        "mailer": LEAF.replace("codeSigning", "emailProtection"),
        "unsigning": "keyUsage=critical,keyEncipherment\n",
        "revocable": LEAF + "crlDistributionPoints=URI:http://crl.test/x\n",
    }.items():
        request(folder, who, SUBJECT, "leaf")
        certify(folder, who, "ca", extensions)
    request(folder, "below", SUBJECT, "leaf")
    certify(folder, "below", "leaf", LEAF)
    return folder


def url64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def der(folder: Path, who: str) -> str:
    return base64.b64encode(
        trust.openssl("x509", "-in", str(folder / f"{who}.pem"), "-outform", "DER")
    ).decode()


def envelope(
    pki: Path,
    signer: str = "leaf",
    chain: tuple[str, ...] = ("ca",),
    *,
    protected: Callable[[dict[str, Any]], None] = lambda _: None,
    target: dict[str, Any] | None = None,
) -> bytes:
    ec = signer.startswith("ec")
    header: dict[str, Any] = {
        "alg": "ES256" if ec else "PS256",
        "crit": ["io.cncf.notary.signingScheme"],
        "cty": "application/vnd.cncf.notary.payload.v1+json",
        "io.cncf.notary.signingScheme": "notary.x509",
        "io.cncf.notary.signingTime": "2026-11-23T09:00:00Z",
    }
    protected(header)
    named = {"digest": ROOT.digest, "mediaType": ROOT.media_type, "size": ROOT.size}
    payload = url64(json.dumps({"targetArtifact": {**named, **(target or {})}}).encode())
    head = url64(json.dumps(header).encode())
    pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"]
    made = trust.openssl(
        "dgst", "-sha256", *([] if ec else pss), "-sign", str(pki / f"{signer}.key"),
        data=f"{head}.{payload}".encode(),
    )  # fmt: skip
    if ec:
        # DER to the two numbers that JWS wants.
        first = made[3]
        r, s = made[4 : 4 + first], made[6 + first :]
        made = b"".join(n.lstrip(b"\0").rjust(32, b"\0") for n in (r, s))
    return json.dumps(
        {
            "payload": payload,
            "protected": head,
            "header": {"x5c": [der(pki, c) for c in (signer, *chain)]},
            "signature": url64(made),
        }
    ).encode()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "store")
    store.add(image("a"), name("x:1"))
    return store


def attach(store: Store, content: bytes, old: bool = False) -> None:
    kinds = {"config": trust.NOTATION} if old else {"artifact": trust.NOTATION}
    root, blobs = trust.manifest(
        [("application/jose+json", content, {})], subject=ROOT, **kinds
    )  # fmt: skip
    trust.put(store, root, blobs)


def document(level: str = "strict", **changes: Any) -> dict[str, Any]:
    override = changes.pop("override", None)
    checking: dict[str, Any] = {"level": level}
    if override:
        checking["override"] = override
    policy = {
        "name": "p",
        "registryScopes": ["*"],
        "signatureVerification": checking,
        "trustStores": ["ca:mine"],
        "trustedIdentities": ["*"],
        **changes,
    }
    return {"version": "1.0", "trustPolicies": [{k: v for k, v in policy.items() if v is not None}]}


def options(store: Store, pki: Path, policy: Any = None, trusted: str = "ca") -> ResolveOptions:
    return ResolveOptions(
        arch="amd64", pull="never", store=store, public_keys=(),
        notation_certificates=[str(pki / f"{trusted}.pem")],
        notation_policy=json.dumps(document() if policy is None else policy),
    )  # fmt: skip


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("signer", "chain", "trusted"),
    [("leaf", ("ca",), "ca"), ("ecleaf", ("ca",), "ca"), ("alone", (), "alone")],
)
def test_good(
    store: Store, pki: Path, signer: str, chain: tuple[str, ...], trusted: str, old: bool
) -> None:
    attach(store, envelope(pki, signer, chain), old)
    given = options(store, pki, trusted=trusted)
    assert resolve("x:1", given).digest == ROOT.digest
    verdict = verify("x:1", given)
    assert verdict.format == "notation" and "CN=signer" in verdict.by
    with pytest.raises(VerificationError, match="leads to no trusted certificate"):
        resolve("x:1", options(store, pki, trusted="stranger"))


def expired(header: dict[str, Any]) -> None:
    header["io.cncf.notary.expiry"] = "2020-01-01T00:00:00Z"
    header["crit"].append("io.cncf.notary.expiry")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"signer": "mailer"}, "for mail"),
        ({"signer": "unsigning"}, "lacks digitalSignature"),
        ({"signer": "below", "chain": ("leaf", "ca")}, "is not a CA certificate"),
        ({"signer": "leaf", "chain": ()}, "not issued by itself"),
        ({"signer": "leaf", "chain": ("stranger",)}, "not issued by"),
        ({"signer": "ca", "chain": ()}, "a CA certificate must not sign"),
        ({"chain": ("ca",) * 10}, "11 certificates"),
        ({"target": {"digest": "sha256:" + "0" * 64}}, "does not correspond"),
        ({"target": {"size": 1}}, "does not correspond"),
        ({"protected": lambda h: h.update(alg="none")}, "does not match the signer"),
        ({"protected": lambda h: h.update(alg="ES256")}, "does not match the signer"),
        ({"protected": lambda h: h.update(alg="PS512")}, "does not match the signer"),
        ({"protected": lambda h: h.update(cty="text/plain")}, "payload of type"),
        ({"protected": lambda h: h.pop("crit")}, "no list of critical"),
        ({"protected": lambda h: h.update(crit=[])}, "not marked as critical"),
        ({"protected": lambda h: h["crit"].append("new")}, "'new' is not known"),
        ({"protected": lambda h: h.pop("io.cncf.notary.signingTime")}, "no signing time"),
        ({"protected": lambda h: h.update({"io.cncf.notary.signingScheme": "x"})}, "not known"),
        ({"protected": expired}, "expired on 2020"),
        ({"signer": "revocable"}, "revocation"),
    ],
)
def test_bad(store: Store, pki: Path, arguments: dict[str, Any], reason: str) -> None:
    attach(store, envelope(pki, **arguments))
    with pytest.raises(VerificationError, match=reason):
        resolve("x:1", options(store, pki))


def test_other_bytes(store: Store, pki: Path) -> None:
    good = json.loads(envelope(pki))
    for key, value in (
        ("signature", url64(b"\0" * 256)),
        ("payload", url64(b"{}")),
        ("protected", "%"),
        ("header", {}),
        ("header", {"x5c": "x"}),
        ("header", {"x5c": ["AAAA"]}),
        ("header", {"x5c": ["%"]}),
    ):
        attach(store, json.dumps({**good, key: value}).encode())
    attach(store, b"\xff")
    attach(store, b"[]")
    with pytest.raises(VerificationError):
        resolve("x:1", options(store, pki))
    # One valid signature is enough.
    attach(store, envelope(pki))
    assert resolve("x:1", options(store, pki))


def test_levels(store: Store, pki: Path) -> None:
    attach(store, envelope(pki, protected=expired))
    assert resolve("x:1", options(store, pki, document("permissive")))
    assert resolve("x:1", options(store, pki, document(override={"expiry": "log"})))
    for action, told in (("log", 1), ("skip", 0)):
        said: list[str] = []
        given = options(store, pki, document(override={"expiry": action}))
        assert resolve("x:1", replace(given, on_message=said.append))
        assert len([text for text in said if "expired on 2020" in text]) == told
    with pytest.raises(VerificationError, match="expiry"):
        strict = document("permissive", override={"expiry": "enforce"})
        resolve("x:1", options(store, pki, strict))
    with pytest.raises(VerificationError, match="authenticity"):
        resolve("x:1", options(store, pki, document("permissive"), trusted="stranger"))


def test_revoked(store: Store, pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers are asked about trusted certificates only, when servers may be asked at all."""
    asked: list[str] = []

    def http_request(url: str, **_: Any) -> bytes:
        asked.append(url)
        raise VerificationError("nobody there")

    monkeypatch.setattr(revocation, "http_request", http_request)
    attach(store, envelope(pki, "revocable"))
    online = replace(options(store, pki), pull="missing")
    with pytest.raises(VerificationError, match="revocation: it is not known whether"):
        resolve("x:1", online)
    assert asked == ["http://crl.test/x"]
    asked.clear()
    for given, reason in (
        (options(store, pki), "pulling is not allowed"),
        (replace(online, disallow_pulling=True), "pulling is not allowed"),
        (replace(options(store, pki, trusted="stranger"), pull="missing"), "no trusted"),
    ):
        with pytest.raises(VerificationError, match=reason):
            resolve("x:1", given)
    skipping = document(override={"revocation": "skip"})
    assert resolve("x:1", replace(options(store, pki, skipping), pull="missing"))
    assert asked == []
    said: list[str] = []
    lenient = options(store, pki, document("permissive"))
    assert resolve("x:1", replace(lenient, pull="missing", on_message=said.append))
    assert asked and "it is not known whether" in said[0]


def test_scopes_and_identities(store: Store, pki: Path) -> None:
    attach(store, envelope(pki))
    repository = name("x")
    for changes, passes in (
        ({"registryScopes": [repository]}, True),
        ({"registryScopes": [name("y")]}, False),
        ({"trustedIdentities": ["x509.subject: C=US, ST=WA, O=Gadgets"]}, True),
        ({"trustedIdentities": ["x509.subject: C=US, ST=WA, O=Gadgets, CN=signer"]}, True),
        ({"trustedIdentities": ["x509.subject: C=US, ST=WA, O=Other"]}, False),
        ({"trustStores": ["signingAuthority:mine"]}, False),
    ):
        given = options(store, pki, document(**changes))
        if passes:
            assert resolve("x:1", given)
        else:
            with pytest.raises(VerificationError):
                resolve("x:1", given)


@pytest.mark.parametrize(
    "policy",
    [
        {}, [], {"version": "2.0", "trustPolicies": []}, {"version": "1.0"},
        document("lax"), document(name=None), document(registryScopes=[]),
        document(registryScopes=["*", "a.b/c"]), document(registryScopes=["https://a"]),
        document(trustStores=["ca:a", "ca:b"]), document(trustStores=["x"]),
        document(trustStores=None), document(trustedIdentities=None),
        document(trustedIdentities=["CN=x"]),
        document(trustedIdentities=["x509.subject: CN=x"]),
        document(override={"integrity": "log"}), document(override={"authenticity": "skip"}),
        document("skip"),
        {"version": "1.0", "trustPolicies": document()["trustPolicies"] * 2},
    ],
)  # fmt: skip
def test_policies_that_are_none(policy: Any) -> None:
    with pytest.raises(UsageError):
        trustpolicy.load(json.dumps(policy))


def test_trust_anchors(pki: Path) -> None:
    assert certificates.load_trusted([str(pki / "ca.pem"), (pki / "alone.pem").read_text()])
    with pytest.raises(UsageError, match="neither a CA certificate nor self-signed"):
        certificates.load_trusted([str(pki / "leaf.pem")])


def test_cosign_keys_do_not_open_notation(store: Store, pki: Path, tmp_path: Path) -> None:
    attach(store, envelope(pki))
    _, public = trust.make_key(tmp_path)
    with pytest.raises(VerificationError, match="signed with notation only"):
        resolve("x:1", ResolveOptions(arch="amd64", pull="never", store=store,
                                      public_keys=[str(public)]))  # fmt: skip
