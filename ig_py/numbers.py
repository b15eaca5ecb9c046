"""Numbers and booleans as texts, in Go's syntax (documentation of Go's package strconv).

``ig`` reads gadgets' parameters as decimal numbers; its own flags take the syntax of Go's
literals, where a leading 0 means octal.
"""

from __future__ import annotations

import math
import re
import struct

BOOLS_HINT = "expected true or false (or 1, t, 0, f)"
INTEGER_RANGES = {
    "int": (-(1 << 63), (1 << 63) - 1),
    "uint": (0, (1 << 64) - 1),
    **{f"int{n}": (-(1 << n - 1), (1 << n - 1) - 1) for n in (8, 16, 32, 64)},
    **{f"uint{n}": (0, (1 << n) - 1) for n in (8, 16, 32, 64)},
}
_LONGEST = 400
"""Characters of a number; the smallest double written out has fewer."""

# Compiled when first used: most runs set no parameter.
_INTEGER = r"[+-]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|[0-9]+)"
_LITERAL = (
    r"([+-]?)(?:0[xX]((?:_?[0-9a-fA-F])+)|0[bB]((?:_?[01])+)|0[oO]?((?:_?[0-7])+)"
    r"|(0|[1-9](?:_?[0-9])*))"
)
_BASES = (16, 2, 8, 10)
_SEPARATOR = r"(?<=[0-9a-fA-F])_(?=[0-9a-fA-F])"
_DECIMAL = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_HEX_FLOAT = r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+"
_SPECIAL = r"(?i:[+-]?inf(?:inity)?|nan)"
_BOOLS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


def parse_int(text: str) -> int:
    """A number, decimal (leading zeros mean nothing) or with 0x, 0o or 0b.

    Raises:
        ValueError: *text* is no such number.
    """
    if len(text) > _LONGEST or not re.fullmatch(_INTEGER, text, re.ASCII):
        raise ValueError(text)
    digits = text.lstrip("+-")
    return int(text, 0) if digits[1:2].isalpha() else int(text, 10)


def parse_literal(text: str) -> int:
    """A number as Go's literals are: 0x, 0o, 0b, a leading 0 for octal, ``_`` between digits.

    Raises:
        ValueError: *text* is no such number.
    """
    match = re.fullmatch(_LITERAL, text, re.ASCII) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(text)
    sign, *groups = match.groups()
    number = next(
        int(digits.replace("_", ""), base)
        for digits, base in zip(groups, _BASES, strict=True)
        if digits is not None
    )
    return -number if sign == "-" else number


def parse_float(text: str, bits: int = 64) -> float:
    """A floating point number: decimal, hexadecimal with an exponent (``0x1p-2``), Inf or NaN.

    Raises:
        ValueError: *text* is no such number.
        OverflowError: It is larger than a number of *bits* can be.
    """
    if len(text) > _LONGEST:
        raise ValueError(text)
    if re.fullmatch(_SPECIAL, text, re.ASCII):
        return float(text)
    text = re.sub(_SEPARATOR, "", text)
    if re.fullmatch(_DECIMAL, text, re.ASCII):
        number = float(text)
    elif re.fullmatch(_HEX_FLOAT, text, re.ASCII):
        number = float.fromhex(text)
    else:
        raise ValueError(text)
    if math.isinf(number):
        raise OverflowError(text)
    if bits == 32:
        struct.pack("<f", number)
    return number


def parse_bool(text: str) -> bool:
    """``true`` or ``false`` in any case, and the short forms of Go's ParseBool.

    Raises:
        ValueError: *text* is none of them.
    """
    try:
        return _BOOLS[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def why_no_number(type_name: str, text: str, *, literal: bool = False) -> str:
    """Why *text* is no integer or floating point number of the type; empty when it is one.

    *literal*: an integer has the syntax of Go's literals.
    """
    if type_name in INTEGER_RANGES:
        low, high = INTEGER_RANGES[type_name]
        try:
            number = (parse_literal if literal else parse_int)(text)
        except ValueError:
            return "expected a whole number"
        return "" if low <= number <= high else f"not between {low} and {high}"
    try:
        parse_float(text, 32 if type_name == "float32" else 64)
    except ValueError:
        return "expected a number"
    except OverflowError:
        return f"too large for a {type_name}"
    return ""
