"""One event as JSON, indented JSON, simple YAML or a row of columns: the plain reference."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from support.reference_text import quoted, split

Tree = dict[str, Any] | list[Any] | str
"""Objects, arrays, and scalars that are already rendered."""

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPES |= {"\u2028": "\\u2028", "\u2029": "\\u2029"}
_EXPONENT_BELOW = 1e-6
_EXPONENT_FROM = 1e21
_F32_DIGITS = 9


def string(raw: bytes) -> str:
    """A JSON string; each byte that is no UTF-8 is an escaped replacement character."""
    out = ""
    for char in split(raw):
        if isinstance(char, int):
            out += "\\ufffd"
        elif char in _ESCAPES:
            out += _ESCAPES[char]
        elif char < " ":
            out += f"\\u{ord(char):04x}"
        else:
            out += char
    return f'"{out}"'


def _as_f32(text: str) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", float(text)))[0])
    except OverflowError:
        return math.inf


def _shortest(value: float, kind: str) -> tuple[str, int]:
    """Fewest digits that read back as *value* (positive, finite), and the decimal exponent.

    Of several, the nearest: at a power of two it need not be the rounded one.
    """
    text = repr(value)
    if kind == "f32":
        for digits in range(1, _F32_DIGITS + 1):
            rounded = Decimal(f"{value:.{digits - 1}e}")
            step = Decimal(1).scaleb(rounded.adjusted() - digits + 1)
            near = (rounded, rounded - step, rounded + step)
            good = [d for d in near if _as_f32(str(d)) == value]
            if good:
                text = str(min(good, key=lambda d: abs(d - Decimal(value))))
                break
    exact = Decimal(text).normalize()
    return "".join(map(str, exact.as_tuple().digits)), exact.adjusted()


def number(value: float, kind: str) -> str:
    """Plain digits between 1e-6 and 1e21, else with an exponent; no number is null."""
    if not math.isfinite(value):
        return "null"
    sign = "-" if math.copysign(1, value) < 0 else ""
    size = abs(value)
    if size == 0:
        return f"{sign}0"
    digits, exponent = _shortest(size, kind)
    low, high = _EXPONENT_BELOW, _EXPONENT_FROM
    if kind == "f32":
        low, high = (struct.unpack("<f", struct.pack("<f", edge))[0] for edge in (low, high))
    if size < low or size >= high:
        fraction = f".{digits[1:]}" if digits[1:] else ""
        return f"{sign}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent)}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole = digits.ljust(exponent + 1, "0")
    fraction = whole[exponent + 1 :]
    return sign + whole[: exponent + 1] + (f".{fraction}" if fraction else "")


def _scalar(kind: str, value: Any) -> str:
    if kind == "bool":
        return "true" if value else "false"
    if kind in ("f32", "f64"):
        return number(value, kind)
    if kind in ("char", "str"):
        return string(value)
    if kind == "bytes":
        return string(value.hex().encode())
    return str(value)


def tree(source: Mapping[str, Any], values: Mapping[int, Any]) -> dict[str, Any]:
    """What JSON shows, nested by parents; keys in the order of their UTF-8 bytes."""

    def below(parent: int | None) -> dict[str, Any]:
        made: dict[str, Any] = {}
        specs = [s for s in source["fields"] if s["parent"] == parent and s.get("json", True)]
        for spec in sorted(specs, key=lambda s: s["name"].encode()):
            has_children = any(s["parent"] == spec["id"] for s in source["fields"])
            value = values[spec["id"]]
            if spec["kind"] == "container" or has_children:
                made[spec["name"]] = below(spec["id"])
            elif isinstance(value, list):
                made[spec["name"]] = [_scalar(spec["kind"], v) for v in value]
            else:
                made[spec["name"]] = _scalar(spec["kind"], value)
        return made

    return below(None)


def _compact(node: Tree) -> str:
    if isinstance(node, dict):
        return "{" + ",".join(f"{string(k.encode())}:{_compact(v)}" for k, v in node.items()) + "}"
    if isinstance(node, list):
        return "[" + ",".join(node) + "]"
    return node


def _indented(node: Tree, depth: int) -> str:
    pad, end = "  " * (depth + 1), "\n" + "  " * depth
    if isinstance(node, dict):
        if not node:
            return "{}"
        lines = [f"{pad}{string(k.encode())}: {_indented(v, depth + 1)}" for k, v in node.items()]
        return "{\n" + ",\n".join(lines) + end + "}"
    if isinstance(node, list):
        if not node:
            return "[]"
        return "[\n" + ",\n".join(pad + item for item in node) + end + "]"
    return node


def _yaml_scalar(rendered: str) -> str:
    return rendered if rendered == '""' else rendered.strip('"')


def _yaml(node: Mapping[str, Any], depth: int) -> str:
    """For names and texts that need no quotes: what quotes are chosen is not told here."""
    pad = "  " * depth
    out = ""
    for key, value in node.items():
        out += f"{pad}{key}:"
        if isinstance(value, dict):
            out += f"\n{_yaml(value, depth + 1)}" if value else " {}\n"
        elif isinstance(value, list):
            items = "".join(f"{pad}- {_yaml_scalar(item)}\n" for item in value)
            out += f"\n{items}" if value else " []\n"
        else:
            out += f" {_yaml_scalar(value)}\n"
    return out


def _cell_text(spec: Mapping[str, Any], column: Mapping[str, Any], value: Any) -> str:
    kind = spec["kind"]
    if kind in ("container", "bytes") or isinstance(value, list):
        return f"<{spec['size']} bytes>"
    if kind == "bool":
        return "true" if value else "false"
    if kind in ("char", "str"):
        return quoted(value)
    if kind in ("f32", "f64"):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "+Inf" if value > 0 else "-Inf"
        return f"{value:.{column.get('precision', 0)}f}"
    if column.get("hex"):
        return f"0x{value:X}"
    return str(value)


def _cell(text: str, column: Mapping[str, Any]) -> str:
    width = column["width"]
    if width <= 0:
        return ""
    if len(text) > width:
        ellipsis = column.get("ellipsis", "none")
        if ellipsis == "none":
            return text[:width]
        if width == 1:
            return "…"
        if ellipsis == "end":
            return text[: width - 1] + "…"
        if ellipsis == "start":
            return "…" + text[len(text) - width + 1 :]
        rest = width - width // 2 - 1
        return text[: width // 2] + "…" + text[len(text) - rest :]
    return text.rjust(width) if column.get("align") == "right" else text.ljust(width)


def event(source: Mapping[str, Any], values: Mapping[int, Any]) -> bytes:
    """One event in the plan's output mode."""
    mode = source["output"]["mode"]
    text = ""
    if mode == "json":
        text = _compact(tree(source, values)) + "\n"
    elif mode == "jsonpretty":
        text = _indented(tree(source, values), 0) + "\n"
    elif mode == "yaml":
        whole = tree(source, values)
        text = "---\n" + (_yaml(whole, 0) if whole else "{}\n")
    elif mode == "columns":
        specs = {spec["id"]: spec for spec in source["fields"]}
        cells = [
            _cell(_cell_text(specs[c["field"]], c, values[c["field"]]), c)
            for c in source["output"]["columns"]
        ]
        text = " ".join(cells) + "\n"
    return text.encode()
