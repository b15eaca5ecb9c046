"""Public keys to verify signatures with."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ig_py.errors import UsageError
from ig_py.host.safe_open import FileRefused, read_argument
from ig_py.oci.trust.model import MAX_KEY_FILE
from ig_py.records import dataclass, field

UPSTREAM_KEY = """\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoDOC0gYSxZTopenGmX3ZFvQ1DSfh
Ir4EKRt5jC+mXaJ7c7J+oREskYMn/SfZdRHNSOjLTZUMDm60zpXGhkFecg==
-----END PUBLIC KEY-----
"""
"""The key that Inspektor Gadget signs its own gadgets with."""

UPSTREAM = "inspektor-gadget"
"""Name of the built-in key, accepted in place of a PEM text or file."""

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
_P256_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
"""What precedes the point in an ECDSA P-256 key's DER form (RFC 5480)."""
_POINT = 65
"""Bytes of an uncompressed point."""
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class PublicKey:
    """*id* is the SHA-256 of the key's DER form in hex, which ``openssl pkey -pubin -outform
    DER | sha256sum`` prints too.
    """

    id: str
    key: Any = field(repr=False)

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """ECDSA over SHA-256 (ASN.1), RSA PKCS #1 v1.5 over SHA-256, or Ed25519."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            if isinstance(self.key, ec.EllipticCurvePublicKey):
                self.key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
                return True
            from cryptography.hazmat.primitives.asymmetric import padding, rsa

            if isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
            else:
                self.key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def load_public_keys(sources: Sequence[str]) -> list[PublicKey]:
    """Keys from PEM texts or files, each with one or more keys.

    Raises:
        UsageError: One cannot be read, or is of a kind that is not known.
    """
    keys: dict[str, PublicKey] = {}
    for given in sources:
        source = UPSTREAM_KEY if given == UPSTREAM else given
        for block in pem_blocks(source, "public key", ("PUBLIC KEY", "RSA PUBLIC KEY")):
            key = public_key(block, _shown(source))
            keys[key.id] = key
    return list(keys.values())


def public_key(pem: str, what: str) -> PublicKey:
    """The key in one PEM block; *what* names it in errors.

    Raises:
        UsageError: It is malformed, or of a kind or size that is not accepted.
    """
    return _p256_key(pem) or _any_key(pem, what)


def _p256_key(pem: str) -> PublicKey | None:
    """An ECDSA P-256 key; None for another or a malformed key.

    Nearly all images are signed with such a key. cryptography's loader for every kind of key
    takes longer to import than verifying an image.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        der = base64.b64decode("".join(pem.split("-----")[2].split()), validate=True)
        if not der.startswith(_P256_PREFIX) or len(der) != len(_P256_PREFIX) + _POINT:
            return None
        point = der[len(_P256_PREFIX) :]
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except (IndexError, ValueError):
        return None
    return PublicKey(_digest(der), key)


def _any_key(pem: str, what: str) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as err:
        raise UsageError(f"public key {what}: not valid: {str(err)[:200]}") from None
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise UsageError(
                f"public key {what}: RSA of {key.key_size} bits, "
                f"not {MIN_RSA_BITS} to {MAX_RSA_BITS}"
            )
    elif not isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
        raise UsageError(f"public key {what}: neither ECDSA, RSA nor Ed25519")
    return PublicKey(key_id(key), key)


def key_id(key: Any) -> str:
    return _digest(der(key))


def _digest(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def der(key: Any) -> bytes:
    """A public key as SubjectPublicKeyInfo."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def pem_blocks(source: str, kind: str, labels: Sequence[str]) -> list[str]:
    """The PEM blocks of *source*, a text or a file, all of which must have one of *labels*.

    Raises:
        UsageError: There is none, one has another label, or the file cannot be read.
    """
    text = text_or_file(source, kind, marker="-----BEGIN")
    found = list(_BLOCK.finditer(text))
    for match in found:
        if match[1] not in labels:
            raise UsageError(f"{kind} {_shown(source)}: holds a {match[1].lower()}")
    if not found:
        raise UsageError(
            f"{kind} {_shown(source)}: no PEM block in it",
            remedy=f"give the text between -----BEGIN {labels[0]}----- and its end, or a file",
        )
    return [match[0] for match in found]


def text_or_file(source: str, kind: str, *, marker: str) -> str:
    """*source* itself when it holds *marker*, else the content of the file it names."""
    if marker in source:
        if len(source) > MAX_KEY_FILE:
            raise UsageError(f"{kind}: larger than {MAX_KEY_FILE} bytes")
        return source
    if not source.strip():
        raise UsageError(f"{kind}: empty")
    return read_small(source.strip(), kind).decode("utf-8", "replace")


def read_small(path: str, kind: str) -> bytes:
    """The content of a file of at most :data:`MAX_KEY_FILE` bytes.

    Raises:
        UsageError: It cannot be read, or is larger.
    """
    try:
        return read_argument(Path(path).expanduser(), most=MAX_KEY_FILE)
    except (FileRefused, RuntimeError) as err:
        raise UsageError(f"{kind}: reading {path[:200]}: {getattr(err, 'reason', err)}") from None


def _shown(source: str) -> str:
    return "given as text" if "-----BEGIN" in source else source.strip()[:200]
