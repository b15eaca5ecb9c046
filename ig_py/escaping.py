"""Escaping what comes from outside before it reaches a terminal.

Names of containers, images and files, and everything an event carries, come from others:
characters that control a terminal, reorder text or draw nothing must never act on it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable

_UNSAFE = (
    # Controls (Unicode's category Cc), surrogates (Cs) and separators of lines (Zl, Zp).
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029"
    # Format characters (Cf).
    "\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u200b-\u200f\u202a-\u202e"
    "\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    # What draws nothing (Default_Ignorable_Code_Point).
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2060-\u206f\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _escape_in_json(match: re.Match[str]) -> str:
    char = match.group()
    if char == "\n":
        return char
    if "\ud800" <= char <= "\udfff":
        return f"\\u{ord(char):04x}"
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def safe(text: object, *, multiline: bool = False) -> str:
    """*text* with control, bidirectional and invisible characters escaped.

    *multiline* keeps newlines and tabs (logs of the verifier or a compiler).
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    if not multiline:
        return _replace(_escape, plain)
    return _replace(lambda m: m.group() if m.group() in "\n\t" else _escape(m), plain)


def safe_json(text: str) -> str:
    """As :func:`safe`, of JSON: what is escaped occurs in its strings only, and means the same."""
    return _replace(_escape_in_json, text)


def _replace(escape: Callable[[re.Match[str]], str], text: str) -> str:
    # Not imported before: most commands escape nothing, and `version` takes no longer than that.
    import re

    return re.sub(_UNSAFE, escape, text)
