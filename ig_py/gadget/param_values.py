"""Values of parameters: their text forms, checked, split, and as bytes of a variable."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable

from ig_py.errors import UsageError, listed
from ig_py.gadget.duration import parse_duration
from ig_py.gadget.spec import ParamSpec
from ig_py.numbers import (
    BOOLS_HINT,
    INTEGER_RANGES,
    parse_bool,
    parse_float,
    parse_int,
)


def _bad(param: ParamSpec, text: str, why: str) -> UsageError:
    shown = text if len(text) <= 64 else text[:61] + "..."
    return UsageError(f"setting parameter {param.key!r} to {shown!r}: {why}")


def check_value(param: ParamSpec, text: str) -> None:
    """Check that *text* is a value of the parameter's type.

    Raises:
        UsageError: It is not.
    """
    hint = param.type_hint
    if param.possible_values and text.lower() not in (v.lower() for v in param.possible_values):
        raise _bad(param, text, f"must be one of {listed(param.possible_values)}")
    if hint in INTEGER_RANGES:
        low, high = INTEGER_RANGES[hint]
        try:
            value = parse_int(text)
        except ValueError:
            raise _bad(param, text, f"not an integer ({hint})") from None
        if not low <= value <= high:
            raise _bad(param, text, f"out of range for {hint} ({low} to {high})")
    elif hint == "bool":
        try:
            parse_bool(text)
        except ValueError:
            raise _bad(param, text, BOOLS_HINT) from None
    elif hint in ("float32", "float64"):
        try:
            parse_float(text, 32 if hint == "float32" else 64)
        except ValueError:
            raise _bad(param, text, "not a number") from None
        except OverflowError:
            raise _bad(param, text, f"out of range for {hint}") from None
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
        return int(parse_bool(text)).to_bytes(param.size, "little")
    if hint in ("float32", "float64"):
        return struct.pack("<f" if hint == "float32" else "<d", parse_float(text))
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
            names = listed(name for _, name in param.enum_values)
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


def split_by_datasource(text: str, what: str, separator: str = ",") -> tuple[str, dict[str, str]]:
    """``VALUE`` or ``ds:VALUE[,ds2:VALUE]`` → (value of all, value by data source).

    Raises:
        UsageError: Both forms are mixed, a data source is named twice, or a value is missing.
    """
    common, by_name = "", {}
    parts = [part.strip() for part in text.split(separator) if part.strip()]
    for part in parts:
        name, colon, value = (word.strip() for word in part.partition(":"))
        if not colon:
            common = part
            continue
        if not name or not value:
            missing = "data source" if not name else "value"
            raise UsageError(
                f'parsing {what}: "{part}" has no {missing}',
                remedy=f"write DATASOURCE:VALUE, further ones after a {separator!r}",
            )
        if name in by_name:
            raise UsageError(
                f'parsing {what}: data source "{name}" is named twice', remedy="name it once"
            )
        by_name[name] = value
    if common and (by_name or len(parts) > 1):
        raise UsageError(
            f"parsing {what}: mixed values with and without specifying data source",
            remedy="give one value for all, or ds:VALUE for each",
        )
    return common, by_name


def unknown_datasource(given: Iterable[str], there: Iterable[str], what: str) -> UsageError | None:
    """An error, to be raised, if the value of *what* names a data source that is not *there*."""
    names = sorted(there)
    unknown = next((name for name in given if name not in names), None)
    if unknown is None:
        return None
    return UsageError(
        f'{what}: there is no data source "{unknown}" to apply it to',
        remedy=f"name one of: {', '.join(names)}",
    )


def check_datasources(given: Iterable[str], there: Iterable[str], what: str) -> None:
    """Check that the data sources named in the value of *what* are *there*.

    Raises:
        UsageError: One is not.
    """
    if error := unknown_datasource(given, there, what):
        raise error
