"""Finding a kernel's types inside its image."""

from __future__ import annotations

import gzip
import lzma
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ig_py.errors import BuildError
from ig_py.toolchain import kernel_btf


def blob(names: tuple[str, ...] = kernel_btf.REQUIRED_NAMES) -> bytes:
    """Header, no types, and strings of a kernel's size."""
    strings = b"\0" + b"".join(n.encode() + b"\0" for n in names)
    strings += b"x" * kernel_btf.MIN_BTF + b"\0"
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, len(strings)) + strings


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


DECOY = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 40, 40, 60)
ABSURD = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0xFFFFFFFC, 0xFFFFFFFC, 0xFFFFFFFF)


def test_raw_btf_is_itself() -> None:
    assert kernel_btf.find_btf(blob(), "x") == blob()


def test_inside_an_uncompressed_image() -> None:
    image = noise(100_000, 1) + DECOY + noise(333, 2) + ABSURD + blob() + noise(50_000, 3)
    assert kernel_btf.find_btf(image, "x") == blob()


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_inside_a_packed_image(pack: object) -> None:
    assert callable(pack)
    inner = noise(10_000, 4) + blob() + noise(10_000, 5)
    image = b"MZ" + noise(5_000, 6) + b"\x1f\x8b\x08" + noise(64, 7) + pack(inner) + noise(999, 8)
    assert kernel_btf.find_btf(image, "x") == blob()


@pytest.mark.parametrize(
    "image",
    [b"", b"\x9f\xeb", noise(10_000, 9), DECOY, ABSURD, blob()[:-1], blob()[:-5] + b"abcde"],
)
def test_nothing_found(image: bytes) -> None:
    with pytest.raises(BuildError, match="the kernel some-image: no BTF found in it"):
        kernel_btf.find_btf(image, "some-image")


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_header_is_an_error_of_ours(rest: bytes) -> None:
    with pytest.raises(BuildError):
        kernel_btf.find_btf(kernel_btf._MAGIC + rest, "x")


def test_missing_names() -> None:
    assert kernel_btf.missing_names(blob()) == []
    some = tuple(n for n in kernel_btf.REQUIRED_NAMES if n not in ("i_ctime_sec", "pt_regs"))
    assert kernel_btf.missing_names(blob(some)) == ["i_ctime_sec", "pt_regs"]
    # A longer name with the same end is another name.
    assert kernel_btf.missing_names(blob((*some, "compat_pt_regs", "i_ctime_sec_old"))) == [
        "i_ctime_sec",
        "pt_regs",
    ]
