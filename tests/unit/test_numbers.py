"""Numbers and booleans as texts, against what Go's strconv makes of them."""

from __future__ import annotations

import math

import pytest

from ig_py.gadget.duration import parse_seconds
from ig_py.numbers import parse_bool, parse_float, parse_int, parse_literal, why_no_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("00", 0),
        ("-0", 0),
        ("+1", 1),
        ("010", 8),
        ("-010", -8),
        ("0o17", 15),
        ("0O17", 15),
        ("0x1F", 31),
        ("0X_1f", 31),
        ("-0x10", -16),
        ("0b11", 3),
        ("1_000", 1000),
        ("0_7", 7),
    ],
)
def test_literals(text: str, number: int) -> None:
    assert parse_literal(text) == number


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "_1", "1_", "1__0", "08", "0b2", "0o8", "0x", "0xg", "1.0", "1e3", "٣", "--1"],
)
def test_no_literals(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_literal(text)


def test_parameters_are_decimal_with_leading_zeros() -> None:
    assert parse_int("010") == 10
    assert parse_int("0x10") == 16
    with pytest.raises(ValueError, match="1_0"):
        parse_int("1_0")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1.0), ("1.", 1.0), (".5", 0.5), ("-1e3", -1000.0), ("0x1p-2", 0.25), ("1_0.5", 10.5)],
)
def test_floats(text: str, number: float) -> None:
    assert parse_float(text) == number


def test_floats_that_are_no_numbers() -> None:
    assert parse_float("-Inf") == -math.inf
    assert parse_float("infinity") == math.inf
    assert math.isnan(parse_float("NaN"))


@pytest.mark.parametrize("text", ["", "1e", "+nan", "0x1", "1__0", " 1", "1,5", "٣", "1" * 500])
def test_no_floats(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_float(text)


@pytest.mark.parametrize(
    ("text", "bits"), [("1.8E+309", 64), ("-1e400", 64), ("0x1p2000", 64), ("1e39", 32)]
)
def test_floats_out_of_range(text: str, bits: int) -> None:
    with pytest.raises(OverflowError):
        parse_float(text, bits)


def test_booleans() -> None:
    for text in ("1", "t", "T", "true", "TRUE", "True", "tRuE"):
        assert parse_bool(text) is True
    for text in ("0", "f", "F", "false", "FALSE", "False"):
        assert parse_bool(text) is False
    for text in ("", "yes", "no", "on", "2", "true "):
        with pytest.raises(ValueError, match=r".*"):
            parse_bool(text)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_ranges(bits: int) -> None:
    for name, low, high in (
        (f"int{bits}", -(1 << bits - 1), (1 << bits - 1) - 1),
        (f"uint{bits}", 0, (1 << bits) - 1),
    ):
        assert why_no_number(name, str(low)) == "" == why_no_number(name, str(high))
        for beyond in (low - 1, high + 1):
            assert why_no_number(name, str(beyond)) == f"not between {low} and {high}"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("5", 5), ("0x1", 1), ("5s", 5), ("1m30s", 90), ("500ms", 0.5), ("-1", -1)],
)
def test_time_limits(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5x", "s", "1.5", "9223372037", "0x", "5 s", "1h-1m"])
def test_no_time_limits(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_seconds(text)
