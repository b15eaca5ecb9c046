"""Certificate revocation: OCSP (RFC 6960), then revocation lists (CRLs, RFC 5280).

Rules: notaryproject/specifications, "certificate revocation evaluation". Only servers that the
certificates name are asked; a certificate that names none cannot be revoked.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ig_py.errors import VerificationError
from ig_py.oci import limits
from ig_py.oci.http_request import http_request

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

MAX_SERVERS = 4
"""Servers asked about one certificate."""
MAX_ANSWER = 64 * limits.KIB
"""Bytes of an OCSP answer."""
MAX_LIST = 8 * limits.MIB
"""Bytes of a revocation list."""
CLOCK_SKEW = datetime.timedelta(minutes=5)
_OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"


def check(chain: Sequence[Certificate], now: datetime.datetime) -> str:
    """Why the chain (signer first, root last) is revoked or unchecked; empty when it is good."""
    for certificate, issuer in pairwise(chain):
        if not revocable(certificate):
            continue
        servers, lists = ocsp_servers(certificate), crl_urls(certificate)
        name = f"certificate {certificate.subject.rfc4514_string()[:200]!r}"
        unknown = [] if servers or lists else ["it names no server that could be asked"]
        for url, question in (
            *((server, _by_ocsp) for server in servers),
            *((url, _by_list) for url in lists),
        ):
            try:
                revoked = question(url, certificate, issuer, now)
            except VerificationError as err:
                unknown.append(err.message)
                continue
            if revoked is not None:
                return f"{name} was revoked on {revoked}"
            unknown = []
            break
        if unknown:
            return f"it is not known whether {name} was revoked: {'; '.join(unknown)}"
    return ""


def revocable(certificate: Certificate) -> bool:
    """Does it name a revocation server, of whatever URL scheme?"""
    from cryptography.x509 import CRLDistributionPoints, FreshestCRL

    lists = (CRLDistributionPoints, FreshestCRL)
    named = any(isinstance(extension.value, lists) for extension in certificate.extensions)
    return named or bool(_ocsp(certificate))


def ocsp_servers(certificate: Certificate) -> list[str]:
    """URLs of the OCSP servers that *certificate* names."""
    return _urls(_ocsp(certificate))


def _ocsp(certificate: Certificate) -> list[Any]:
    from cryptography.x509 import AuthorityInformationAccess
    from cryptography.x509.oid import AuthorityInformationAccessOID as Access

    found = []
    for extension in certificate.extensions:
        if isinstance(extension.value, AuthorityInformationAccess):
            found += [d.access_location for d in extension.value if d.access_method == Access.OCSP]
    return found


def crl_urls(certificate: Certificate) -> list[str]:
    """URLs of the revocation lists that *certificate* names."""
    from cryptography.x509 import CRLDistributionPoints

    found: list[Any] = []
    for extension in certificate.extensions:
        if isinstance(extension.value, CRLDistributionPoints):
            for point in extension.value:
                found += point.full_name or []
    return _urls(found)


def _urls(names: Sequence[Any]) -> list[str]:
    from cryptography.x509 import UniformResourceIdentifier

    return [n.value for n in names if isinstance(n, UniformResourceIdentifier)][:MAX_SERVERS]


def _by_ocsp(
    server: str, certificate: Certificate, issuer: Certificate, now: datetime.datetime
) -> datetime.datetime | None:
    """When it was revoked; None when it was not.

    Raises:
        VerificationError: The server gives no valid answer.
    """
    from cryptography.hazmat.primitives.hashes import SHA1
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import ocsp

    # Many servers identify certificates by SHA-1 only; the hash protects nothing here.
    request = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, SHA1()).build()
    raw = http_request(
        server,
        body=request.public_bytes(Encoding.DER),
        kind="application/ocsp-request",
        limit=MAX_ANSWER,
    )
    what = f"the answer of {server[:200]}"
    with _read(what):
        answer = ocsp.load_der_ocsp_response(raw)
        if answer.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise VerificationError(f"{what}: {answer.response_status.name.lower()}")
        _check_answer(answer, issuer, now, what)
        for single in answer.responses:
            same = ocsp.OCSPRequestBuilder().add_certificate(
                certificate, issuer, single.hash_algorithm
            )
            wanted = same.build()
            if (single.serial_number, single.issuer_key_hash, single.issuer_name_hash) != (
                wanted.serial_number, wanted.issuer_key_hash, wanted.issuer_name_hash,
            ):  # fmt: skip
                continue
            _check_time(single.this_update_utc, single.next_update_utc, now, what)
            if single.certificate_status == ocsp.OCSPCertStatus.GOOD:
                return None
            if single.certificate_status == ocsp.OCSPCertStatus.REVOKED:
                return single.revocation_time_utc or now
            raise VerificationError(f"{what}: the server does not know the certificate")
    raise VerificationError(f"{what}: it is about another certificate")


def _check_answer(answer: Any, issuer: Certificate, now: datetime.datetime, what: str) -> None:
    """Check the answer's signature: by the issuer, or by a responder that it authorised."""
    for signer in (issuer, *answer.certificates):
        if signer is not issuer and not _may_answer(signer, issuer, now):
            continue
        algorithm = answer.signature_hash_algorithm
        if _signed(signer, answer.signature, answer.tbs_response_bytes, algorithm):
            return
    raise VerificationError(f"{what}: not signed by the certificate's issuer")


def _may_answer(signer: Certificate, issuer: Certificate, now: datetime.datetime) -> bool:
    from cryptography.x509 import ExtendedKeyUsage

    from ig_py.oci.trust.certificates import issued, valid_at

    uses = {
        oid.dotted_string
        for extension in signer.extensions
        if isinstance(extension.value, ExtendedKeyUsage)
        for oid in extension.value
    }
    return _OCSP_SIGNING in uses and issued(signer, issuer) and not valid_at([signer], now)


def _signed(signer: Certificate, signature: bytes, data: bytes, algorithm: Any) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    if not isinstance(algorithm, (hashes.SHA256, hashes.SHA384, hashes.SHA512)):
        return False
    key = signer.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(algorithm))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _by_list(
    url: str, certificate: Certificate, issuer: Certificate, now: datetime.datetime
) -> datetime.datetime | None:
    """As :func:`_by_ocsp`."""
    from cryptography.x509 import KeyUsage, load_der_x509_crl

    raw = http_request(url, limit=MAX_LIST)
    what = f"the list {url[:200]}"
    with _read(what):
        found = load_der_x509_crl(raw)
        key: Any = issuer.public_key()
        usages = [e.value for e in issuer.extensions if isinstance(e.value, KeyUsage)]
        if not all(usage.crl_sign for usage in usages):
            raise VerificationError(f"{what}: the certificate's issuer must not sign lists")
        if found.issuer != issuer.subject or not found.is_signature_valid(key):
            raise VerificationError(f"{what}: not signed by the certificate's issuer")
        _check_time(found.last_update_utc, found.next_update_utc, now, what)
        if any(e.critical and not _for_all(e.value) for e in found.extensions):
            raise VerificationError(
                f"{what}: it does not cover all certificates, or has an unknown extension"
            )
        entry = found.get_revoked_certificate_by_serial_number(certificate.serial_number)
        return entry.revocation_date_utc if entry is not None else None


def _for_all(extension: Any) -> bool:
    """Does the list with this critical extension still cover every certificate?"""
    from cryptography.x509 import IssuingDistributionPoint

    return isinstance(extension, IssuingDistributionPoint) and not (
        extension.indirect_crl
        or extension.only_some_reasons
        or extension.only_contains_attribute_certs
        or extension.only_contains_ca_certs
        or extension.only_contains_user_certs
    )


@contextmanager
def _read(what: str) -> Iterator[None]:
    """Exceptions of a malformed answer become a :class:`VerificationError`."""
    import warnings

    from ig_py.oci.trust.certificates import unreadable

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except unreadable() as err:
        raise VerificationError(f"{what}: not valid: {str(err)[:200]}") from err


def _check_time(
    since: datetime.datetime | None,
    until: datetime.datetime | None,
    now: datetime.datetime,
    what: str,
) -> None:
    if since is None or since > now + CLOCK_SKEW:
        raise VerificationError(f"{what}: its time is in the future")
    if until is None or until < now:
        raise VerificationError(f"{what}: out of date")
