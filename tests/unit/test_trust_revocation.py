"""Were the certificates revoked: servers that answer truly, wrongly, or not at all."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID as Access
from cryptography.x509.oid import ExtendedKeyUsageOID as Use
from support.registry_server import FaultyRegistry, Reply, Request, serving

from ig_py.oci import http_request
from ig_py.oci.trust import revocation

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)
SHA256 = hashes.SHA256()


class Authority:
    """Issues certificates, answers and lists."""

    def __init__(self, name: str = "authority", *, crl_sign: bool = True) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, crl_sign, False, False)
        self.certificate = self._signed(self.name, self.key, usage)

    def _signed(self, name: x509.Name, key: Any, *extensions: Any) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            self.name, name, key.public_key(), x509.random_serial_number(), NOW - DAY, NOW + DAY
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, SHA256)

    def issue(self, *extensions: Any, key: Any = None) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signer")])
        return self._signed(name, key or ec.generate_private_key(ec.SECP256R1()), *extensions)

    def crl(self, *revoked: int, since: int = -1, until: int = 1, extension: Any = None) -> bytes:
        builder = x509.CertificateRevocationListBuilder(
            self.name, NOW + since * DAY, NOW + until * DAY
        )
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder(serial, NOW - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        if extension:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(self.key, SHA256).public_bytes(Encoding.DER)

    def answer(
        self,
        about: x509.Certificate,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        *,
        until: datetime.timedelta | None = DAY,
        since: datetime.timedelta = -DAY,
        responder: tuple[x509.Certificate, Any] | None = None,
        algorithm: Any = SHA256,
    ) -> bytes:
        gone = NOW - DAY if status == ocsp.OCSPCertStatus.REVOKED else None
        signer, key = responder or (self.certificate, self.key)
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(about, self.certificate, algorithm, status, NOW + since,
                          None if until is None else NOW + until, gone, None)
            .responder_id(ocsp.OCSPResponderEncoding.HASH, signer)
        )  # fmt: skip
        if responder:
            builder = builder.certificates([signer])
        return builder.sign(key, SHA256).public_bytes(Encoding.DER)


ROOT, STRANGER = Authority(), Authority()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyRegistry]:
    monkeypatch.setattr(http_request, "TIMEOUT_S", 0.5)
    with serving(FaultyRegistry()) as running:
        yield running


def places(server: FaultyRegistry, kinds: str) -> list[Any]:
    """What a certificate says about where to ask: ``ocsp``, ``crl`` or both."""
    found: list[Any] = []
    if "ocsp" in kinds:
        where = x509.UniformResourceIdentifier(f"{server.base}/ocsp")
        found.append(x509.AuthorityInformationAccess([x509.AccessDescription(Access.OCSP, where)]))
    if "crl" in kinds:
        where = x509.UniformResourceIdentifier(f"{server.base}/crl")
        found.append(
            x509.CRLDistributionPoints([x509.DistributionPoint([where], None, None, None)])
        )
    return found


def says(server: FaultyRegistry, ocsp: bytes | None = None, crl: bytes | None = None) -> None:
    for path, content in (("/ocsp", ocsp), ("/crl", crl)):
        if content is not None:
            server.on(path, lambda _q, _r, content=content: Reply(200, content))


def check(certificate: x509.Certificate) -> str:
    return revocation.check([certificate, ROOT.certificate], NOW)


def test_certificates_that_cannot_be_revoked(server: FaultyRegistry) -> None:
    assert check(ROOT.issue()) == ""
    assert revocation.check([ROOT.certificate], NOW) == ""
    assert server.requests == []


@pytest.mark.parametrize("kinds", ["ocsp", "crl", "ocsp crl"])
def test_good(server: FaultyRegistry, kinds: str) -> None:
    leaf = ROOT.issue(*places(server, kinds))
    says(server, ROOT.answer(leaf), ROOT.crl(5))
    assert check(leaf) == ""
    # One valid answer is enough.
    assert [r.path for r in server.requests] == ["/crl" if kinds == "crl" else "/ocsp"]
    assert all(r.authorization == "" for r in server.requests)


@pytest.mark.parametrize("kinds", ["ocsp", "crl"])
def test_revoked(server: FaultyRegistry, kinds: str) -> None:
    leaf = ROOT.issue(*places(server, kinds))
    says(server, ROOT.answer(leaf, ocsp.OCSPCertStatus.REVOKED), ROOT.crl(leaf.serial_number))
    assert "was revoked on" in check(leaf)


def test_a_list_where_the_server_fails(server: FaultyRegistry) -> None:
    leaf = ROOT.issue(*places(server, "ocsp crl"))
    says(server, b"", ROOT.crl())
    assert check(leaf) == ""
    other = ROOT.issue(*places(server, "ocsp crl"))
    says(server, None, ROOT.crl(other.serial_number))
    assert "was revoked on" in check(other)


def responder(*extensions: Any, issuer: Authority = ROOT) -> tuple[x509.Certificate, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    return issuer.issue(*extensions, key=key), key


def test_delegated_responders(server: FaultyRegistry) -> None:
    leaf = ROOT.issue(*places(server, "ocsp"))
    allowed = responder(x509.ExtendedKeyUsage([Use.OCSP_SIGNING]))
    says(server, ROOT.answer(leaf, responder=allowed))
    assert check(leaf) == ""
    for other in (
        responder(),
        responder(x509.ExtendedKeyUsage([Use.CODE_SIGNING])),
        responder(x509.ExtendedKeyUsage([Use.OCSP_SIGNING]), issuer=STRANGER),
    ):
        says(server, ROOT.answer(leaf, responder=other))
        assert "not signed by the certificate's issuer" in check(leaf)


def unsuccessful() -> bytes:
    status = ocsp.OCSPResponseStatus.TRY_LATER
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda leaf: b"", "not valid"),
        (lambda leaf: b"\x30\x80", "not valid"),
        (lambda leaf: unsuccessful(), "try_later"),
        (lambda leaf: STRANGER.answer(leaf), "not signed by"),
        (lambda leaf: ROOT.answer(ROOT.issue()), "about another certificate"),
        (lambda leaf: ROOT.answer(leaf, ocsp.OCSPCertStatus.UNKNOWN), "does not know"),
        (lambda leaf: ROOT.answer(leaf, until=-DAY / 2), "out of date"),
        (lambda leaf: ROOT.answer(leaf, until=None), "out of date"),
        (lambda leaf: ROOT.answer(leaf, since=DAY / 2), "its time is in the future"),
        (lambda leaf: b"x" * (revocation.MAX_ANSWER + 1), "sent more than 64.0 KiB"),
    ],
)
def test_answers_that_count_for_nothing(
    server: FaultyRegistry, answer: Callable[[x509.Certificate], bytes], reason: str
) -> None:
    leaf = ROOT.issue(*places(server, "ocsp"))
    says(server, answer(leaf))
    told = check(leaf)
    assert told.startswith("it is not known whether") and reason in told


def test_any_hash_of_names_is_fine(server: FaultyRegistry) -> None:
    for algorithm in (hashes.SHA1(), hashes.SHA384()):
        leaf = ROOT.issue(*places(server, "ocsp"))
        says(server, ROOT.answer(leaf, algorithm=algorithm))
        assert check(leaf) == ""


def scope(**only: bool) -> Any:
    names = ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl",
             "only_contains_attribute_certs")  # fmt: skip
    flags = {**dict.fromkeys(names, False), **only}
    here = [x509.UniformResourceIdentifier("http://x.test/")]
    return x509.IssuingDistributionPoint(
        full_name=here, relative_name=None, only_some_reasons=None, **flags
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: b"", "not valid"),
        (lambda: STRANGER.crl(), "not signed by"),
        (lambda: Authority("other").crl(), "not signed by"),
        (lambda: ROOT.crl(since=-3, until=-1), "out of date"),
        (lambda: ROOT.crl(since=1, until=2), "its time is in the future"),
        (lambda: ROOT.crl(extension=x509.DeltaCRLIndicator(1)), "does not cover all certificates"),
        (lambda: ROOT.crl(extension=scope(indirect_crl=True)), "does not cover all certificates"),
        (lambda: ROOT.crl(extension=scope(only_contains_ca_certs=True)), "does not cover all"),
        (lambda: ROOT.crl(extension=scope()), ""),
    ],
)
def test_lists_that_count_for_nothing(
    server: FaultyRegistry, content: Callable[[], bytes], reason: str
) -> None:
    leaf = ROOT.issue(*places(server, "crl"))
    says(server, crl=content())
    told = check(leaf)
    assert bool(told) == bool(reason) and reason in told


def test_authorities_that_may_not_sign_lists(server: FaultyRegistry) -> None:
    modest = Authority(crl_sign=False)
    leaf = modest.issue(*places(server, "crl"))
    says(server, crl=modest.crl())
    assert "must not sign lists" in revocation.check([leaf, modest.certificate], NOW)


@pytest.mark.parametrize(
    "reply",
    [Reply(404), Reply(302, headers={"Location": "/crl2"}), Reply(200, b"x" * 100, drip=0.2),
     Reply(200, b"x", delay=5.0), Reply(200, b"xx", cut=1)],
)  # fmt: skip
def test_servers_that_do_not_answer(server: FaultyRegistry, reply: Reply) -> None:
    leaf = ROOT.issue(*places(server, "crl"))

    def fault(_request: Request, _reply: Reply) -> Reply:
        return reply

    server.on("/crl", fault)
    assert "it is not known whether" in check(leaf)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "place", ["ldap://x.test/", "file:///etc/passwd", "http://", "http://[x", ""]
)
def test_places_that_are_none(place: str) -> None:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(place)], None, None, None)
    assert "it is not known whether" in check(ROOT.issue(x509.CRLDistributionPoints([point])))


def test_no_address_at_all() -> None:
    named = x509.DirectoryName(ROOT.name)
    point = x509.DistributionPoint([named], None, None, None)
    assert "names no server" in check(ROOT.issue(x509.CRLDistributionPoints([point])))


def test_every_certificate_below_the_root_counts() -> None:
    """A signer that is fine, below an authority that was revoked."""
    with ExitStack() as stack:
        server = stack.enter_context(serving(FaultyRegistry()))
        middle = Authority("middle")
        below = ROOT._signed(middle.name, middle.key, *places(server, "crl"))
        leaf = middle.issue()
        says(server, crl=ROOT.crl(below.serial_number))
        told = revocation.check([leaf, below, ROOT.certificate], NOW)
        assert "CN=middle" in told and "was revoked on" in told
