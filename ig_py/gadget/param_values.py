"""Values of parameters: their text forms, checked, split, and as bytes of a variable."""

from __future__ import annotations

import ipaddress
import re
import struct

from ig_py.errors import UsageError
from ig_py.gadget.duration import parse_duration
from ig_py.gadget.spec import ParamSpec

# Compiled when first used: most runs set no parameter.
_INTEGER = r"[+-]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|[0-9]+)"
INTEGER_RANGES = {
    "int": (-(1 << 63), (1 << 63) - 1),
    "uint": (0, (1 << 64) - 1),
    **{f"int{n}": (-(1 << n - 1), (1 << n - 1) - 1) for n in (8, 16, 32, 64)},
    **{f"uint{n}": (0, (1 << n) - 1) for n in (8, 16, 32, 64)},
}


def _bad(param: ParamSpec, text: str, why: str) -> UsageError:
    shown = text if len(text) <= 64 else text[:61] + "..."
    return UsageError(f"setting parameter {param.key!r} to {shown!r}: {why}")


def parse_int(text: str) -> int:
    """A number, decimal or with 0x, 0o or 0b.

    Raises:
        ValueError: *text* is no such number.
    """
    if len(text) > 70 or not re.fullmatch(_INTEGER, text, re.ASCII):
        raise ValueError(text)
    digits = text.lstrip("+-")
    return int(text, 0) if digits[1:2].isalpha() else int(text, 10)


def check_value(param: ParamSpec, text: str) -> None:
    """Check that *text* is a value of the parameter's type.

    Raises:
        UsageError: It is not.
    """
    hint = param.type_hint
    if param.possible_values and text.lower() not in (v.lower() for v in param.possible_values):
        raise _bad(param, text, f"must be one of {', '.join(param.possible_values)}")
    if hint in INTEGER_RANGES:
        low, high = INTEGER_RANGES[hint]
        try:
            value = parse_int(text)
        except ValueError:
            raise _bad(param, text, f"not an integer ({hint})") from None
        if not low <= value <= high:
            raise _bad(param, text, f"out of range for {hint} ({low} to {high})")
    elif hint == "bool":
        if text.lower() not in ("true", "false"):
            raise _bad(param, text, "must be true or false")
    elif hint in ("float32", "float64"):
        try:
            float(text)
        except ValueError:
            raise _bad(param, text, "not a number") from None
    elif hint == "duration":
        try:
            parse_duration(text)
        except ValueError:
            raise _bad(param, text, 'not a duration such as "500ms", "2s" or "1h30m"') from None
    elif hint == "ip":
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise _bad(param, text, "not an IP address") from None
    elif hint == "string" and param.variable:
        size = len(text.encode("utf-8", "surrogateescape"))
        if size > param.size:
            raise _bad(param, text, f"too long: {size} > {param.size} bytes")


def encode_param(param: ParamSpec, text: str) -> bytes:
    """The bytes of an eBPF parameter's variable, ``param.size`` long.

    Raises:
        UsageError: *text* is no value of the parameter's type.
    """
    check_value(param, text)
    hint = param.type_hint
    if param.enum_values:
        return _encode_enum(param, text)
    if hint in INTEGER_RANGES:
        value = parse_int(text)
        return (value & ((1 << param.size * 8) - 1)).to_bytes(param.size, "little")
    if hint == "bool":
        return int(text.lower() == "true").to_bytes(param.size, "little")
    if hint in ("float32", "float64"):
        try:
            return struct.pack("<f" if hint == "float32" else "<d", float(text))
        except OverflowError:
            raise _bad(param, text, f"out of range for {hint}") from None
    if hint == "string":
        raw = text.encode("utf-8", "surrogateescape")
        return raw.ljust(param.size, b"\0")
    if hint == "ip":
        # struct gadget_l3endpoint_t: 16 bytes of address, then the version.
        address = ipaddress.ip_address(text)
        head = address.packed.ljust(16, b"\0") + bytes([address.version])
        return head.ljust(param.size, b"\0")
    raise _bad(param, text, f"variable {param.variable!r} has a type that cannot be set")


def _encode_enum(param: ParamSpec, text: str) -> bytes:
    value = param.enum_values.by_name.get(text)
    if value is None:
        try:
            value = parse_int(text)
        except ValueError:
            names = ", ".join(name for _, name in param.enum_values[:32])
            raise _bad(param, text, f"must be a number or one of {names}") from None
    bits = param.size * 8
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if param.signed else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise _bad(param, text, f"out of range ({low} to {high})")
    return (value & ((1 << bits) - 1)).to_bytes(param.size, "little")


def split_list(text: str) -> list[str]:
    """A list-typed value: comma separated, ``\\,`` and ``\\\\`` escaped, no empty last element."""
    items, current, escaped = [], "", False
    for char in text:
        if escaped:
            current += char if char in ",\\" else "\\" + char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            items.append(current)
            current = ""
        else:
            current += char
    if escaped:
        current += "\\"
    if current:
        items.append(current)
    return items


def split_by_datasource(text: str, what: str) -> tuple[str, dict[str, str]]:
    """``VALUE`` or ``ds:VALUE[,ds2:VALUE]`` → (value of all, value by data source).

    Raises:
        UsageError: Both forms are mixed.
    """
    common, by_name = "", {}
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        name, colon, value = part.partition(":")
        if colon:
            by_name[name] = value
        else:
            common = part
    if common and (by_name or len(parts) > 1):
        raise UsageError(
            f"parsing {what}: mixed values with and without specifying data source",
            remedy="give one value for all, or ds:VALUE for each",
        )
    return common, by_name
