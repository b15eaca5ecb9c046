"""Reading small files of the kernel."""

from __future__ import annotations

import os

MAX_FILE = 64 * 1024
"""Bytes read of one /proc or cgroup file."""


def is_there(path: str) -> bool:
    """Whether *path* exists; False where there are no rights to look."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists() raises PermissionError)


def read_bytes(path: str, most: int = MAX_FILE) -> bytes:
    """At most *most* bytes of a small kernel file; b"" when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        chunks = []
        while most and (chunk := os.read(fd, most)):
            chunks.append(chunk)
            most -= len(chunk)
    except OSError:
        return b""
    finally:
        os.close(fd)
    return b"".join(chunks)


def read_text(path: str) -> str:
    """As :func:`read_bytes`, as text."""
    return read_bytes(path).decode("utf-8", "replace")
