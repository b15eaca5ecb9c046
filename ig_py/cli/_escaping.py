"""Escaping what comes from outside before it reaches a terminal.

Names of containers, images and files, and everything an event carries, come from others:
control and bidirectional characters must never act on the terminal.
"""

from __future__ import annotations

import re

_UNSAFE = (
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
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


def safe(text: object, *, multiline: bool = False) -> str:
    """*text* with control, bidirectional and invisible characters escaped.

    *multiline* keeps newlines and tabs (logs of the verifier or a compiler).
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    if not multiline:
        return re.sub(_UNSAFE, _escape, plain)
    return re.sub(_UNSAFE, lambda m: m.group() if m.group() in "\n\t" else _escape(m), plain)
