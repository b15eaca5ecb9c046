"""Digests of small and large content, which two implementations compute."""

from __future__ import annotations

import hashlib

import pytest

from ig_py.errors import IntegrityError
from ig_py.oci import digest
from ig_py.oci.digest import SMALL, Damaged, Verifier


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1])
def test_the_digest_of_content(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    wanted = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert digest.of(data) == wanted
    digest.verify(data, wanted, size, "it")
    with pytest.raises(Damaged):
        digest.verify(data[:-1] + b"!", wanted, size, "it")


def test_content_in_parts_and_other_algorithms() -> None:
    for algorithm in ("sha256", "sha512"):
        wanted = f"{algorithm}:{hashlib.new(algorithm, b'abc').hexdigest()}"
        verifier = Verifier(wanted, 3, "it")
        for part in (b"a", b"bc"):
            verifier.update(part)
        verifier.finish()
        with pytest.raises(Damaged):
            digest.verify(b"abd", wanted, 3, "it")
    with pytest.raises(IntegrityError):
        Verifier("md5:00", 3, "it")
