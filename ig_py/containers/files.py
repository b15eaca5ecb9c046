"""Reading small files of the kernel."""

from __future__ import annotations

import os

MAX_FILE = 64 * 1024
"""Bytes read of one /proc or cgroup file."""


def why_missing(path: str) -> str:
    """Why there is nothing to be used at *path*; "" when there is."""
    try:
        os.stat(path)  # noqa: PTH116 (Path.exists() raises what it cannot tell)
    except (FileNotFoundError, NotADirectoryError):
        return "no such socket"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def read_text(path: str) -> str:
    """At most MAX_FILE bytes of a small kernel file as text; "" when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        chunks = []
        left = MAX_FILE
        while left and (chunk := os.read(fd, left)):
            chunks.append(chunk)
            left -= len(chunk)
    except OSError:
        return ""
    finally:
        os.close(fd)
    return b"".join(chunks).decode("utf-8", "replace")
