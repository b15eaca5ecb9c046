"""Imports of a wasm module."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ig_py.errors import IgPyError, LimitError, ObjectError
from ig_py.inspect import wasm_imports as module
from ig_py.inspect.wasm_imports import wasm_imports

HEAD = b"\0asm\1\0\0\0"
# Of each kind: function, table, memory, memory with a maximum, global, tag.
IMPORTS = (
    b"\x06"
    b"\x02ig\x01f\x00\x05"
    b"\x03env\x01t\x01\x70\x00\x01"
    b"\x03env\x01m\x02\x00\x01"
    b"\x02ig\x01n\x02\x01\x01\x80\x02"
    b"\x03env\x01g\x03\x7f\x00"
    b"\x02ig\x01x\x04\x00\x00"
)


def with_section(number: int, content: bytes) -> bytes:
    return bytes([number, len(content)]) + content


def test_names_in_order_of_one_module() -> None:
    raw = HEAD + with_section(1, b"\0") + with_section(2, IMPORTS) + with_section(10, b"\0")
    assert wasm_imports(raw, "ig", "x") == ["f", "n", "x"]
    assert wasm_imports(raw, "env", "x") == ["t", "m", "g"]


def test_no_imports() -> None:
    assert wasm_imports(HEAD, "ig", "x") == []
    assert wasm_imports(HEAD + with_section(10, b"abc"), "ig", "x") == []


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "cut short"),
        (b"\0asm\2\0\0\0", "version 1"),
        (HEAD + b"\x0a\x05ab", "cut short"),
        (HEAD + with_section(2, b"\x02" + IMPORTS[1:8]), "cut short"),
        (HEAD + b"\x02\xff\xff\xff\xff\xff", "too large"),
        (HEAD + with_section(2, b"\x01\x01a\x01b\x09"), "unknown kind 9"),
        (HEAD + with_section(2, b"\x01\x01\xff\x01b\x00\x00"), "not UTF-8"),
    ],
)
def test_malformed_modules_are_told(raw: bytes, why: str) -> None:
    with pytest.raises(ObjectError, match=why):
        wasm_imports(raw, "ig", "x")


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LimitError, match="imports"):
        wasm_imports(HEAD + with_section(2, b"\xff\xff\x7f"), "ig", "x")
    with pytest.raises(LimitError, match="a name of"):
        wasm_imports(HEAD + with_section(2, b"\x01\xff\x7f"), "ig", "x")
    monkeypatch.setattr(module, "MAX_SIZE", 4)
    with pytest.raises(LimitError, match="bytes"):
        wasm_imports(HEAD, "ig", "x")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_random_bytes_only_raise_our_errors(raw: bytes) -> None:
    with contextlib.suppress(IgPyError):
        wasm_imports(HEAD + raw, "ig", "x")
