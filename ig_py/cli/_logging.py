"""Showing what ig_py's modules log."""

from __future__ import annotations

from ig_py.cli._log_format import log_line
from ig_py.cli._terminal import is_verbose, to_stderr


def route_logging() -> None:
    """Show what ig_py's modules log: warnings and worse always, the rest with ``-v``.

    A record with ``asked_for`` (``extra=``) is shown always.
    """
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            level = next(
                (
                    name
                    for name in ("error", "warning", "info")
                    if record.levelno >= logging.getLevelNamesMapping()[name.upper()]
                ),
                "debug",
            )
            asked_for = getattr(record, "asked_for", False)
            if level in ("error", "warning") or asked_for or is_verbose():
                to_stderr(log_line(level, record.getMessage()))

    logger = logging.getLogger("ig_py")
    if not logger.handlers:
        logger.addHandler(Handler())
        logger.propagate = False
    logger.setLevel(logging.DEBUG if is_verbose() else logging.WARNING)
