"""Messages and logs on stderr, escaped (:mod:`ig_py.escaping`)."""

from __future__ import annotations

import os
import sys

from ig_py.escaping import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ig_py.cli._messages import Messages

_verbose = False
_queue: Messages | None = None


def set_verbose(on: bool) -> None:
    """Switch ``-v`` on or off."""
    global _verbose
    _verbose = on


def is_verbose() -> bool:
    return _verbose


def queue_messages() -> None:
    """From now on messages are queued (:mod:`ig_py.cli._messages`): no thread waits for the
    reader of standard error. For commands whose threads must go on when that reader stops."""
    global _queue
    if _queue is not None:
        return
    try:
        fd = sys.stderr.fileno()
    except (OSError, ValueError):
        # Not a file: a test's buffer, whose writer never waits.
        return
    from ig_py.cli._messages import Messages

    sys.stderr.flush()
    _queue = Messages(fd, _dropped)


def flush_messages(seconds: float | None) -> None:
    """Wait until queued messages are written, at most *seconds* (None: as long as it takes)."""
    if _queue is not None:
        _queue.flush(0 if _queue.stuck else seconds)


def end_queue(seconds: float | None) -> None:
    """As :func:`flush_messages`; when all is written, messages are queued no longer."""
    global _queue
    flush_messages(seconds)
    if _queue is not None and not _queue.stuck:
        _queue = None


def _dropped(count: int) -> bytes:
    from ig_py.cli._log_format import log_line

    text = f"{count} messages were not written: standard error was not read"
    return (log_line("warning", text) + "\n").encode()


def to_stderr(line: str) -> None:
    """One line, as it is: *line* is safe already."""
    if _queue is not None:
        _queue.put((line + "\n").encode("utf-8", "backslashreplace"))
        return
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
    from ig_py.cli._log_format import log_line

    to_stderr(log_line("warning", msg))


def debug(msg: str) -> None:
    """A log line shown only with ``-v``."""
    if _verbose:
        from ig_py.cli._log_format import log_line

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
