"""Reading small files of the kernel."""

from __future__ import annotations

import errno
import logging
import os

from ig_py.host.descriptors import REMEDY, USED_UP

log = logging.getLogger(__name__)

MAX_FILE = 64 * 1024
"""Bytes read of one /proc or cgroup file."""


_said: set[int] = set()


def say_if_used_up(what: str, error: OSError) -> None:
    """Warn, once for each kind, that *what* failed for want of descriptors or memory: what a caller
    then takes as absent may be there."""
    number = error.errno or 0
    if (number in USED_UP or number == errno.ENOMEM) and number not in _said:
        _said.add(number)
        advice = f": {REMEDY}" if number == errno.EMFILE else ""
        log.warning(
            "%a: %s; processes and containers may be missed%s", what, error.strerror, advice
        )


def is_there(path: str) -> bool:
    """Whether *path* exists; False where there are no rights to look."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists() raises PermissionError)


def read_bytes(path: str, most: int = MAX_FILE) -> bytes:
    """At most *most* bytes of a small kernel file; b"" when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        say_if_used_up(path, error)
        return b""
    try:
        chunks = []
        while most and (chunk := os.read(fd, most)):
            chunks.append(chunk)
            most -= len(chunk)
    except OSError as error:
        say_if_used_up(path, error)
        return b""
    finally:
        os.close(fd)
    return b"".join(chunks)


def read_text(path: str) -> str:
    """As :func:`read_bytes`, as text."""
    return read_bytes(path).decode("utf-8", "replace")
