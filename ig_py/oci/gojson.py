"""JSON as Go's encoding/json writes it: image digests depend on every byte of it.

Compact; ``< > &`` and U+2028/9 escaped; other UTF-8 raw; what is not valid UTF-8
becomes the escape of U+FFFD. Keys keep the order given: structs have a fixed one,
maps go through :func:`sorted_map`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# What the standard library leaves as it is; these occur in strings only.
_HTML = (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"),
         ("\u2028", "\\u2028"), ("\u2029", "\\u2029"))  # fmt: skip
_SURROGATE = re.compile("[\ud800-\udfff]")
_quote = json.JSONEncoder(ensure_ascii=False).encode


def sorted_map(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """A Go map: keys in byte order."""
    return {
        key: mapping[key]
        for key in sorted(mapping, key=lambda k: k.encode("utf-8", "surrogatepass"))
    }


def dumps(value: Any, *, indent: str = "") -> bytes:
    """*value* (dict, list, tuple, str, bool, int, None) as JSON, no newline at the end.

    With *indent* it is laid out as ``MarshalIndent`` does, one unit a level.
    """
    return _encode(value, indent, "\n").encode()


def _encode(value: Any, indent: str, newline: str) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return string(value)
        case dict():
            space = " " if indent else ""
            items = [
                f"{string(k)}:{space}{_encode(v, indent, newline + indent)}"
                for k, v in value.items()
            ]
            return _wrap("{", items, "}", indent, newline)
        case list() | tuple():
            return _wrap(
                "[", [_encode(v, indent, newline + indent) for v in value], "]", indent, newline
            )
    raise TypeError(f"no JSON for {type(value).__name__}")


def _wrap(start: str, items: list[str], end: str, indent: str, newline: str) -> str:
    if not indent or not items:
        return start + ",".join(items) + end
    inner = newline + indent
    return start + inner + f",{inner}".join(items) + newline + end


def string(text: str) -> str:
    """*text* quoted."""
    return _SURROGATE.sub(r"\\ufffd", escape_html(_quote(text)))


def escape_html(text: str) -> str:
    """JSON *text* with ``< > &`` and the line separators of JavaScript escaped."""
    for char, escape in _HTML:
        text = text.replace(char, escape)
    return text
