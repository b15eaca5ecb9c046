"""Digests, validated before use.

A digest is the only untrusted string that becomes a file name: it must match a strict
pattern before a path is made of it (CVE-2024-3727).
"""

from __future__ import annotations

import re
from typing import Any

from ig_py.errors import IntegrityError

SMALL = 1 << 20
"""Bytes of content, up to which the interpreter's own SHA-256 is quicker than loading OpenSSL."""

_DIGEST = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")


class Damaged(IntegrityError):
    """Content does not match its digest or size."""


def is_valid(digest: str) -> bool:
    """True for ``sha256:`` or ``sha512:`` and lower-case hex of the right length."""
    return _DIGEST.fullmatch(digest) is not None


def split(digest: str) -> tuple[str, str]:
    """(algorithm, hex).

    Raises:
        IntegrityError: *digest* is not a valid one.
    """
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise IntegrityError(f"invalid digest {digest[:160]!r}")
    return (match[1], match[2]) if match[1] else (match[3], match[4])


def of(data: bytes) -> str:
    """The sha256 digest of *data*."""
    found = _hash("sha256", len(data))
    found.update(data)
    return f"sha256:{found.hexdigest()}"


def _hash(algorithm: str, size: int) -> Any:
    """A hash of :mod:`hashlib` or its like, for content of *size* bytes."""
    if algorithm == "sha256" and size <= SMALL:
        # What hashlib itself falls back to: importing hashlib loads OpenSSL, 4 MiB and 3 ms of a
        # run that uses nothing else of it. The module is _sha2 from Python 3.12 on.
        try:
            from _sha2 import sha256  # type: ignore[import-not-found]
        except ImportError:
            try:
                from _sha256 import sha256  # type: ignore[import-not-found]
            except ImportError:
                from hashlib import sha256
        return sha256()
    import hashlib

    return hashlib.new(algorithm)


class Verifier:
    """Hashes and counts streamed content and compares it with a digest and a size.

    *what* names the content in errors.

    Raises:
        IntegrityError: The digest is not a valid one.
        Damaged: From :meth:`update`: there is more than *size* bytes. From :meth:`finish`: there
            is less, or the content has another digest.
    """

    def __init__(self, digest: str, size: int, what: str) -> None:
        algorithm, self._hex = split(digest)
        self._hash = _hash(algorithm, size)
        self._digest = digest
        self._size = size
        self._seen = 0
        self._what = what

    def update(self, chunk: bytes) -> None:
        self._seen += len(chunk)
        if self._seen > self._size:
            raise Damaged(f"{self._what}: longer than its declared {self._size} bytes")
        self._hash.update(chunk)

    def finish(self) -> None:
        if self._seen != self._size:
            raise Damaged(f"{self._what}: {self._seen} bytes instead of the declared {self._size}")
        actual = self._hash.hexdigest()
        if actual != self._hex:
            algorithm = self._digest.partition(":")[0]
            raise Damaged(
                f"{self._what}: content has digest {algorithm}:{actual} instead of {self._digest}"
            )


def verify(data: bytes, digest: str, size: int, what: str) -> None:
    """Check that *data* has this digest and size; *what* names it in errors.

    Raises:
        IntegrityError: The digest is not a valid one.
        Damaged: It has not.
    """
    verifier = Verifier(digest, size, what)
    verifier.update(data)
    verifier.finish()
