"""One line of the log, as stderr shows it (docs/reference/cli.md#messages)."""

from __future__ import annotations

import os
import re
import sys
import time

from ig_py.escaping import safe

_STARTED = time.monotonic()
_BARE = r"[A-Za-z0-9\-._/@^+]+"
_LEVELS = {
    "debug": ("DEBU", 37),
    "info": ("INFO", 36),
    "warning": ("WARN", 33),
    "error": ("ERRO", 31),
}
_TTY_PAD = 44


def quote(text: str) -> str:
    """*text* as a quoted string whose quotes and backslashes are escaped."""
    return '"' + safe(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def log_line(level: str, msg: str, *, tty: bool | None = None) -> str:
    """One line without newline. *level*: debug, info, warning or error.

    On a terminal a level, coloured unless the terminal is dumb (``TERM``), and the seconds since
    start, elsewhere ``time="…" level=… msg=…`` (UTC, RFC 3339).
    """
    if tty is None:
        tty = sys.stderr.isatty()
    if tty:
        name, colour = _LEVELS[level]
        seconds = int(time.monotonic() - _STARTED)
        if os.environ.get("TERM") != "dumb":
            name = f"\x1b[{colour}m{name}\x1b[0m"
        return f"{name}[{seconds:04d}] {safe(msg):<{_TTY_PAD}} "
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = msg if re.fullmatch(_BARE, msg) else quote(msg)
    return f'time="{now}" level={level} msg={text}'
