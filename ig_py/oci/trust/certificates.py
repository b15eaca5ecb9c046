"""Certificate chains of the Notary Project: short, ordered, for code signing."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ig_py.errors import UsageError, VerificationError
from ig_py.oci.trust.keys import pem_blocks

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

MAX_CHAIN = 10
"""Certificates of one signature."""
_FORBIDDEN_USES = {
    "2.5.29.37.0": "any use",
    "1.3.6.1.5.5.7.3.1": "TLS servers",
    "1.3.6.1.5.5.7.3.4": "mail",
    "1.3.6.1.5.5.7.3.8": "time stamps",
    "1.3.6.1.5.5.7.3.9": "OCSP",
}
_CODE_SIGNING = "1.3.6.1.5.5.7.3.3"
_ALIASES = {"S": "ST"}


def load_trusted(sources: Sequence[str]) -> list[Certificate]:
    """Load trust anchors, CA or self-signed certificates, from PEM texts or files.

    Raises:
        UsageError: One cannot be read, or is neither.
    """
    from cryptography.x509 import load_pem_x509_certificate

    found = []
    for source in sources:
        for block in pem_blocks(source, "notation certificate", ("CERTIFICATE",)):
            try:
                certificate = load_pem_x509_certificate(block.encode())
                subject(certificate)
                anchor = _is_authority(certificate) or issued(certificate, certificate)
            except unreadable() as err:
                raise UsageError(f"notation certificate: not valid: {str(err)[:200]}") from err
            if not anchor:
                name = certificate.subject.rfc4514_string()[:200]
                raise UsageError(
                    f"notation certificate {name}: neither a CA certificate nor self-signed",
                    remedy="name the certificate of the CA that issued it",
                )
            found.append(certificate)
    return found


def parse_chain(raw: Sequence[bytes]) -> list[Certificate]:
    """Parse the chain of a signature, the signer first.

    Raises:
        VerificationError: It is empty, too long or malformed, or violates the Notary
            Project's specification.
    """
    from cryptography.x509 import load_der_x509_certificate

    if not 1 <= len(raw) <= MAX_CHAIN:
        raise VerificationError(f"certificate chain: {len(raw)} certificates")
    try:
        with warnings.catch_warnings():
            # cryptography warns of what a later version will refuse.
            warnings.simplefilter("error")
            chain = [load_der_x509_certificate(item) for item in raw]
            check_chain(chain)
            # cryptography parses these on access: it must raise here.
            for certificate in chain:
                list(certificate.extensions)
                valid_at([certificate], certificate.not_valid_after_utc)
                subject(certificate)
    except unreadable() as err:
        raise VerificationError(f"certificate chain: not valid: {str(err)[:200]}") from err
    return chain


def unreadable() -> tuple[type[Exception], ...]:
    """Exceptions that parsing a malformed certificate may raise."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import DuplicateExtension, InvalidVersion

    kinds = (UnsupportedAlgorithm, DuplicateExtension, InvalidVersion)
    return (*kinds, ValueError, TypeError, Warning)


def check_chain(chain: Sequence[Certificate]) -> None:
    """Check issuers, keys and usages; the last certificate must be issued by itself."""
    for position, certificate in enumerate(chain):
        last = position == len(chain) - 1
        if not issued(certificate, certificate if last else chain[position + 1]):
            raise VerificationError(
                f"certificate chain: {_name(certificate)} is not issued by "
                + ("itself, and it is the last" if last else _name(chain[position + 1]))
            )
        _check_key(certificate)
        if position:
            _check_authority(certificate, below=position - 1)
    _check_signer(chain[0])


def issued(certificate: Certificate, issuer: Certificate) -> bool:
    """Did *issuer*'s key sign *certificate*?"""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def valid_at(chain: Sequence[Certificate], when: datetime.datetime) -> str:
    """Why the chain is not valid at *when*; empty when it is."""
    for certificate in chain:
        if when < certificate.not_valid_before_utc:
            return f"{_name(certificate)} is not valid before {certificate.not_valid_before_utc}"
        if when > certificate.not_valid_after_utc:
            return f"{_name(certificate)} expired on {certificate.not_valid_after_utc}"
    return ""


def subject(certificate: Certificate) -> dict[str, str]:
    """The subject's attributes by their short names."""
    found: dict[str, str] = {}
    for attribute in certificate.subject:
        name = attribute.rfc4514_attribute_name
        found[_ALIASES.get(name, name)] = str(attribute.value)
    return found


def parse_name(text: str) -> dict[str, str]:
    """``C=US, ST=WA, O=x`` → attributes.

    Raises:
        UsageError: It is malformed, names an attribute twice, or lacks C, ST or O.
    """
    from cryptography.x509 import Name

    parts: list[str] = []
    for piece in text.split(","):
        # A backslash escapes a comma in a value (RFC 4514).
        if parts and parts[-1].endswith("\\"):
            parts[-1] += "," + piece
        else:
            parts.append(piece.strip())
    normal = [f"ST={p[2:]}" if p[:2].upper() == "S=" else p for p in parts]
    try:
        name = Name.from_rfc4514_string(",".join(normal))
    except ValueError as err:
        raise UsageError(f"trusted identity {text[:200]!r}: {err}") from err
    found: dict[str, str] = {}
    for attribute in name:
        key = attribute.rfc4514_attribute_name
        if key in found:
            raise UsageError(f"trusted identity {text[:200]!r}: {key} twice")
        found[key] = str(attribute.value)
    for needed in ("C", "ST", "O"):
        if needed not in found:
            raise UsageError(f"trusted identity {text[:200]!r}: has no {needed}")
    return found


def _extension(certificate: Certificate, kind: Any) -> Any:
    from cryptography.x509 import ExtensionNotFound

    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except ExtensionNotFound:
        return None


def _is_authority(certificate: Certificate) -> bool:
    from cryptography.x509 import BasicConstraints

    constraints = _extension(certificate, BasicConstraints)
    return constraints is not None and bool(constraints.ca)


def _check_authority(certificate: Certificate, *, below: int) -> None:
    from cryptography.x509 import BasicConstraints, KeyUsage

    constraints = _extension(certificate, BasicConstraints)
    if constraints is None or not constraints.ca:
        raise VerificationError(f"certificate chain: {_name(certificate)} is not a CA certificate")
    if constraints.path_length is not None and constraints.path_length < below:
        raise VerificationError(f"certificate chain: longer than {_name(certificate)} allows")
    usage = _extension(certificate, KeyUsage)
    if usage is None or not usage.key_cert_sign:
        raise VerificationError(
            f"certificate chain: {_name(certificate)} may not issue certificates"
        )


def _check_signer(certificate: Certificate) -> None:
    from cryptography.x509 import ExtendedKeyUsage, KeyUsage

    if _is_authority(certificate):
        raise VerificationError(f"{_name(certificate)}: a CA certificate must not sign images")
    usage = _extension(certificate, KeyUsage)
    if usage is None or not usage.digital_signature:
        raise VerificationError(f"{_name(certificate)}: its key usage lacks digitalSignature")
    extended = _extension(certificate, ExtendedKeyUsage)
    uses = {oid.dotted_string for oid in extended} if extended is not None else set()
    for oid in sorted(uses & _FORBIDDEN_USES.keys()):
        raise VerificationError(f"{_name(certificate)}: for {_FORBIDDEN_USES[oid]}, not for images")
    if uses and _CODE_SIGNING not in uses:
        raise VerificationError(f"{_name(certificate)}: its extended key usage lacks code signing")


def _check_key(certificate: Certificate) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key = certificate.public_key()
    strong = (isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 8192) or isinstance(
        key, ec.EllipticCurvePublicKey
    )
    if not strong:
        raise VerificationError(f"{_name(certificate)}: neither RSA of 2048 bits nor ECDSA")


def _name(certificate: Certificate) -> str:
    return f"certificate {certificate.subject.rfc4514_string()[:200]!r}"
