"""Text that acts on a terminal, and what of it has reached one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress

from support.waiting import deadline

HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b7m\x90q\x9c\x7f\x08\x0c\x0b\x85\u202egnp\u2066\u2069"
    "\u200b\u200f\u061c\u2028\u2029\ufeff\u00ad\u180e\u3164\ufff9\U000e0041"
)
"""Escape sequences of seven and of eight bits, other controls, and characters that reorder, hide
or draw nothing."""
MARK = "h0st1le"
"""Put beside it, to know that the text is shown at all."""
TEXT = f"{MARK}{HOSTILE}"


def acting(shown: bytes) -> list[str]:
    """The characters of *shown* that act on a terminal, or that it hides; ends of lines and
    tabulators excepted."""
    text = shown.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    found = {
        char
        for char in text
        if char not in "\n\t"
        and (
            unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co")
            or char in "\u115f\u1160\u17b4\u17b5\u180e\u3164\uffa0"
        )
    }
    return sorted(f"U+{ord(char):04X}" for char in found)


def on_terminal(argv: Sequence[str], *, seconds: float = 120, **environment: str) -> bytes:
    """All that ``ig-py ARGV`` writes to a terminal, which has no escape sequences of its own."""
    start = "import ig_py.cli as cli; raise SystemExit(cli.main())"
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", start, *argv],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "dumb", **environment},
        )
    finally:
        os.close(theirs)
    shown = b""
    try:
        # Read to the end: EIO when the last descriptor of the other side is closed (pty(7)).
        with suppress(OSError):
            while chunk := os.read(ours, 65536):
                shown += chunk
        process.wait(deadline(seconds))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
    return shown
