"""Removing directories that others filled.

shutil.rmtree() calls itself for each directory in a directory: of one that is a thousand deep it
raises RecursionError, and leaves it.
"""

from __future__ import annotations

import os
from contextlib import suppress

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | os.PathLike[str], dir_fd: int | None = None) -> None:
    """Remove the directory *path* and all that is in it; what cannot be removed stays.

    It may be of any depth. Links are not followed. *dir_fd*: what *path* is relative to.
    """
    with suppress(OSError):
        base = os.open(path, _DIRECTORY, dir_fd=dir_fd)
        try:
            _empty(base)
        finally:
            os.close(base)
        os.rmdir(path, dir_fd=dir_fd)


def _empty(base: int) -> None:
    """Remove what is in *base*. What a directory in it contains is moved to *base* first, once:
    every turn makes the tree less deep."""
    mark, number = os.urandom(8).hex(), 0
    while names := os.listdir(base):
        removed = 0
        for name in names:
            if _unlinked(name, base):
                removed += 1
                continue
            with suppress(OSError):
                inner = os.open(name, _DIRECTORY, dir_fd=base)
                try:
                    for child in os.listdir(inner):  # noqa: PTH208 (a descriptor)
                        number += 1
                        with suppress(OSError):
                            os.unlink(child, dir_fd=inner)
                            continue
                        os.rename(child, f"{mark}{number}", src_dir_fd=inner, dst_dir_fd=base)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=base)
                removed += 1
        if not removed:
            return


def _unlinked(name: str, base: int) -> bool:
    try:
        os.unlink(name, dir_fd=base)
    except OSError:
        return False
    return True
