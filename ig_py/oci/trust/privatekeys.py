"""Private keys: cosign's encrypted files, and plain or encrypted PKCS #8.

A file of cosign's is a PEM block around JSON: scrypt derives a key from the password, and
NaCl's secretbox (XSalsa20 and Poly1305, from PyNaCl) encrypts the private key's PKCS #8 form
with it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ig_py.errors import IntegrityError, LimitError, UsageError
from ig_py.host.scratch import new_file
from ig_py.oci.document import load_json
from ig_py.oci.trust.keys import PublicKey, key_id, pem_blocks
from ig_py.oci.trust.model import MAX_KEY_FILE
from ig_py.records import dataclass, field

LABELS = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
_PLAIN = ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
_ENV = "env://"
_SCRYPT = {"N": 65536, "r": 8, "p": 1}
_KEY_SIZE = 32
_NONCE_SIZE = 24
"""Bytes of secretbox's key and nonce."""
_MAX_SCRYPT_MEMORY = 256 << 20
"""Bytes that a key file may make scrypt use."""
_LINE = 64

Password = Callable[[], str]
"""Asks for a password; called only when one is needed."""


@dataclass(frozen=True)
class PrivateKey:
    """Signs as :meth:`PublicKey.verifies` verifies."""

    key: Any = field(repr=False)

    @property
    def public(self) -> PublicKey:
        public = self.key.public_key()
        return PublicKey(key_id(public), public)

    def sign(self, data: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

        signature: bytes
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            signature = self.key.sign(data, ec.ECDSA(hashes.SHA256()))
        elif isinstance(self.key, rsa.RSAPrivateKey):
            signature = self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        else:
            signature = self.key.sign(data)
        return signature


def load_private_key(source: str, password: Password) -> PrivateKey:
    """The key in PEM text, a file, or ``env://VARIABLE``.

    Raises:
        UsageError: It cannot be read or decrypted, or is of a kind that cannot sign here.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    if source.startswith(_ENV):
        variable = source.removeprefix(_ENV)
        source = os.environ.get(variable, "")
        if "-----BEGIN" not in source:
            raise UsageError(f"private key: the variable {variable} holds no PEM text")
    block = pem_blocks(source, "private key", (*LABELS, *_PLAIN))[0]
    lines = block.splitlines()
    label = lines[0].strip("-").removeprefix("BEGIN ")
    try:
        if label in LABELS:
            body = base64.b64decode("".join(lines[1:-1]), validate=True)
            key: Any = load_der_private_key(_decrypt(body, password()), None)
        else:
            key = _load_pem(block, password)
    except (ValueError, UnsupportedAlgorithm) as err:
        raise UsageError(f"private key: not understood: {str(err)[:200]}") from None
    if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)) and not (
        isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048
    ):
        raise UsageError("private key: neither ECDSA, RSA of 2048 bits nor Ed25519")
    return PrivateKey(key)


def generate(password: str) -> tuple[str, str]:
    """A new P-256 key pair as PEM: (private, encrypted as cosign does; public)."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    text = base64.b64encode(_encrypt(secret, password)).decode()
    body = "\n".join(text[i : i + _LINE] for i in range(0, len(text), _LINE))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return f"-----BEGIN {LABELS[0]}-----\n{body}\n-----END {LABELS[0]}-----\n", public.decode()


def write_pair(prefix: str, password: str) -> tuple[Path, Path]:
    """Write ``PREFIX.key`` (mode 0600) and ``PREFIX.pub``; neither may exist.

    Raises:
        UsageError: One exists, or cannot be written.
    """
    private, public = Path(f"{prefix}.key"), Path(f"{prefix}.pub")
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path} exists already", remedy="choose another --output-key-prefix")
    texts = generate(password)
    made: dict[Path, int] = {}
    try:
        # Both get their names when both are whole, and neither takes the place of another file.
        with (
            new_file(private, 0o600, replace=False) as key,
            new_file(public, 0o644, replace=False) as shown,
        ):
            for path, file, text in zip((private, public), (key, shown), texts, strict=True):
                made[path] = os.fstat(file.fileno()).st_ino
                file.write(text.encode())
    except BaseException as err:
        for path, inode in made.items():
            with suppress(OSError):
                if path.lstat().st_ino == inode:
                    path.unlink()
        if not isinstance(err, OSError):
            raise
        raise UsageError(f"writing {err.filename2 or private}: {err.strerror}") from err
    return private, public


def _load_pem(block: str, password: Password) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(block.encode(), None)
    except TypeError:
        # What it raises for an encrypted key without password.
        return load_pem_private_key(block.encode(), password().encode())


def _encrypt(secret: bytes, password: str) -> bytes:
    from nacl.secret import SecretBox

    salt, nonce = os.urandom(32), os.urandom(_NONCE_SIZE)
    box = SecretBox(_derive(password, salt, _SCRYPT))
    document = {
        "kdf": {"name": "scrypt", "params": _SCRYPT, "salt": _b64(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": _b64(nonce)},
        "ciphertext": _b64(box.encrypt(secret, nonce).ciphertext),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _decrypt(raw: bytes, password: str) -> bytes:
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    try:
        document = load_json(raw, "private key", MAX_KEY_FILE)
        kdf, cipher = document["kdf"], document["cipher"]
        names = (kdf["name"], cipher["name"])
        params = {name: kdf["params"][name] for name in ("N", "r", "p")}
        salt, nonce, encrypted = (
            base64.b64decode(text, validate=True)
            for text in (kdf["salt"], cipher["nonce"], document["ciphertext"])
        )
    except (IntegrityError, LimitError, LookupError, TypeError) as err:
        raise ValueError(f"its encryption: {err}") from None
    if names != ("scrypt", "nacl/secretbox"):
        raise ValueError("encrypted in an unknown way")
    if not all(type(v) is int and v > 0 for v in params.values()) or (
        128 * params["N"] * params["r"] > _MAX_SCRYPT_MEMORY or params["p"] > 16
    ):
        raise ValueError("its encryption asks for too much memory or time")
    if len(nonce) != _NONCE_SIZE:
        raise ValueError(f"its nonce has {len(nonce)} bytes, not {_NONCE_SIZE}")
    try:
        return SecretBox(_derive(password, salt, params)).decrypt(encrypted, nonce)
    except CryptoError:
        raise ValueError("the password is wrong, or the file was changed") from None


def _derive(password: str, salt: bytes, params: dict[str, int]) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=params["N"], r=params["r"], p=params["p"],
        maxmem=2 * _MAX_SCRYPT_MEMORY, dklen=_KEY_SIZE,
    )  # fmt: skip


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
