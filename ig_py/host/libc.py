"""The C library, for system calls that Python lacks.

What ctypes makes for each library and each array is a class, which only the garbage collector
frees: here each of them is made once.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ctypes


@functools.cache
def libc() -> ctypes.CDLL:
    """Errors of its calls are in ``ctypes.get_errno()``."""
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def file_system_magic(place: int | str | os.PathLike[str]) -> int:
    """``f_type`` of the file system of a descriptor or path (statfs(2)).

    Raises:
        OSError: That cannot be known.
    """
    import ctypes

    facts = _statfs()()
    if isinstance(place, int):
        failed = libc().fstatfs(place, facts)
    else:
        failed = libc().statfs(os.fsencode(place), facts)
    if failed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(facts[0])


@functools.cache
def _statfs() -> Any:
    import ctypes

    # struct statfs begins with its type, a long; all of it is 120 bytes.
    return ctypes.c_long * 32
