"""Text of unknown bytes, as the formats of `ig` treat it."""

from __future__ import annotations

from collections.abc import Iterator

REPLACEMENT = "\ufffd"
_NAMED = {7: "a", 8: "b", 12: "f", 10: "n", 13: "r", 9: "t", 11: "v"}
_MAX_UTF8 = 4
_DRAWS_NOTHING = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0}
_DRAWS_NOTHING.update(range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0000, 0xE1000))
"""Default ignorable letters and marks (Unicode DerivedCoreProperties)."""


def split(raw: bytes) -> Iterator[str | int]:
    """Characters, and as a number each byte that begins none: it is skipped alone."""
    at = 0
    while at < len(raw):
        for length in range(1, _MAX_UTF8 + 1):
            try:
                yield raw[at : at + length].decode("utf-8")
            except UnicodeDecodeError:
                continue
            at += length
            break
        else:
            yield raw[at]
            at += 1


def runes(raw: bytes) -> str:
    """One replacement character for each byte that is no UTF-8."""
    return "".join(REPLACEMENT if isinstance(part, int) else part for part in split(raw))


def quoted(raw: bytes) -> str:
    """As between the quotes of a Go string literal: only printable characters are left."""
    out = ""
    for part in split(raw):
        if isinstance(part, int):
            out += f"\\x{part:02x}"
        elif part in '"\\':
            out += "\\" + part
        elif part.isprintable() and ord(part) not in _DRAWS_NOTHING:
            out += part
        elif ord(part) in _NAMED:
            out += "\\" + _NAMED[ord(part)]
        elif ord(part) < 0x20 or ord(part) == 0x7F:
            out += f"\\x{ord(part):02x}"
        elif ord(part) < 0x10000:
            out += f"\\u{ord(part):04x}"
        else:
            out += f"\\U{ord(part):08x}"
    return out
