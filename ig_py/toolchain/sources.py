"""Files that a gadget's author chose: those of its directory, and what a build left.

A gadget's sources may come from another author. Building them must neither put other files of the
builder's machine into the image, nor wait for a FIFO. Links may lead to other places of the
directory, not out of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ig_py.errors import BuildError
from ig_py.host.safe_open import (
    FileRefused,
    Links,
    open_beneath,
    open_directory_beneath,
    read_beneath,
)

DEADLINE_S = 10.0
"""Seconds that the file system of a gadget's directory may take for a file."""
_REMEDY = "put a regular file into the directory, and name it relative to this"


def read_source(root: Path, name: str, kind: str, most: int) -> bytes | None:
    """The file *name* of the gadget in *root*; None when it does not exist.

    *kind* is what it is: ``build file``. *most*: bytes that are accepted.

    Raises:
        BuildError: It leads out of *root*, is no regular file or too large, or cannot be read.
    """
    try:
        return read_beneath(
            root, name, most=most, links=Links.BENEATH, one_mount=False, deadline_s=DEADLINE_S
        )
    except FileRefused as e:
        raise _refused(kind, name, e) from None


def has_source(root: Path, name: str, kind: str) -> bool:
    """Whether the gadget in *root* has a file *name*, for a compiler to read.

    Raises:
        BuildError: As :func:`read_source`; its size is not looked at.
    """
    fd = _open(root, name, kind)
    if fd is not None:
        os.close(fd)
    return fd is not None


def open_source(root: Path, name: str, kind: str) -> BinaryIO:
    """The file *name* below *root*, for reading.

    Raises:
        BuildError: As :func:`read_source`, or it does not exist.
    """
    fd = _open(root, name, kind)
    if fd is None:
        raise BuildError(f"reading {kind} {name}: not found")
    return os.fdopen(fd, "rb")


def _open(root: Path, name: str, kind: str) -> int | None:
    try:
        return open_beneath(root, name, links=Links.BENEATH, one_mount=False, deadline_s=DEADLINE_S)
    except FileRefused as e:
        raise _refused(kind, name, e) from None


def read_made(scratch: Path, path: Path, most: int) -> bytes:
    """A file that a build left in *scratch*, where a builder image can write as well.

    Raises:
        BuildError: It is a link or no regular file, too large, or not there.
    """
    try:
        raw = read_beneath(scratch, str(path.relative_to(scratch)), most=most, deadline_s=None)
    except FileRefused as e:
        raise BuildError(f"reading {path.name}, which the build made: {e.reason}") from None
    if raw is None:
        raise BuildError(f"reading {path.name}: the build did not make it")
    return raw


@contextmanager
def source_place(root: Path, name: str, kind: str) -> Iterator[Path]:
    """A path for writing the file *name* of the gadget in *root*, which leads nowhere else.

    Raises:
        BuildError: Its directory is not below *root*.
    """
    file = PurePosixPath(name)
    try:
        fd = open_directory_beneath(
            root, str(file.parent), links=Links.BENEATH, one_mount=False, deadline_s=DEADLINE_S
        )
    except FileRefused as e:
        raise _refused(kind, name, e, "writing") from None
    if fd is None or file.name in ("", ".."):
        raise BuildError(f"writing {kind} {name}: no such directory")
    try:
        yield Path(f"/proc/self/fd/{fd}", file.name)
    finally:
        os.close(fd)


def _refused(kind: str, name: str, error: FileRefused, action: str = "reading") -> BuildError:
    return BuildError(f"{action} {kind} {name}: {error.reason}", remedy=_REMEDY)
