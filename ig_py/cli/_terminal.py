"""What reaches a terminal: escaped text, messages and logs on stderr.

Names of containers, images and files, and everything an event carries, come from
strangers: control and bidirectional characters must never act on the terminal.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

_UNSAFE = (
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_verbose = False


def set_verbose(on: bool) -> None:
    """Switch ``-v`` on (it is never switched off again by a later flag)."""
    global _verbose
    _verbose = _verbose or on


def is_verbose() -> bool:
    return _verbose


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


def to_stderr(line: str) -> None:
    """One line, as it is: *line* is safe already."""
    # A closed stderr must not hide why the command ends, nor end it.
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def info(msg: str) -> None:
    """A plain line on stderr (progress and results that are not data)."""
    to_stderr(safe(msg))


def detail(text: str) -> None:
    """A text of several lines on stderr."""
    to_stderr(safe(text.rstrip("\n"), multiline=True))


def record(fields: Mapping[str, object]) -> None:
    """A typed record: one line of JSON on stderr (ASCII, so nothing to escape)."""
    import json

    to_stderr(json.dumps(fields, separators=(",", ":")))


def warn(msg: str) -> None:
    """A warning, in the log format, on stderr."""
    from ig_py.cli._logging import log_line

    to_stderr(log_line("warning", msg))


def debug(msg: str) -> None:
    """A log line shown only with ``-v``."""
    if _verbose:
        from ig_py.cli._logging import log_line

        to_stderr(log_line("debug", msg))


def width() -> int | None:
    """Characters in a line of the terminal that stdout is; None when it is none."""
    if not sys.stdout.isatty():
        return None
    for stream in (sys.stdin, sys.stdout):
        try:
            return os.get_terminal_size(stream.fileno()).columns or None
        except (OSError, ValueError):
            continue
    return None
