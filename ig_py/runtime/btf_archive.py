"""One member of an image's btfgen layer, which is a ``.tar.gz`` that anyone may have made."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib

from ig_py.errors import LimitError, ObjectError

MAX_UNPACKED = 512 << 20
"""Bytes of all archives of an image that are unpacked in search of the member."""
MAX_MEMBERS = 100_000
"""Members that are looked at: BTFHub has some thousands of kernels."""
MAX_TYPES = 64 << 20
"""Bytes of one kernel's types."""
# A chain of extended headers is read recursively.
_DAMAGED = (tarfile.TarError, EOFError, OSError, ValueError, RecursionError)


class Budget:
    """What may still be unpacked of one image's archives: ``left``, in bytes."""

    def __init__(self) -> None:
        self.left = MAX_UNPACKED


def search(layer: bytes, member: str, what: str, budget: Budget) -> bytes | None:
    """The content of *member*; None when *layer* does not have it.

    Args:
        what: The attempt, for errors.
        budget: Takes what is unpacked.

    Raises:
        ObjectError: The layer is no ``.tar.gz``.
        LimitError: The layer, or the member, is too large.
    """
    try:
        with (
            _Bounded(layer, what, budget) as unpacked,
            tarfile.open(fileobj=unpacked, mode="r|") as tar,
        ):
            for count, info in enumerate(tar):
                if count >= MAX_MEMBERS:
                    raise LimitError(f"{what}: more than {MAX_MEMBERS} members")
                if info.name.removeprefix("./") != member or not info.isreg():
                    continue
                if info.size > MAX_TYPES:
                    raise LimitError(
                        f"{what}: {member} has {info.size} bytes, at most {MAX_TYPES} are read"
                    )
                file = tar.extractfile(info)
                return file.read() if file is not None else None
    except (*_DAMAGED, zlib.error) as err:
        raise ObjectError(f"{what}: {err}") from None
    return None


class _Bounded(gzip.GzipFile):
    """Unpacks what the budget allows: a small archive may unpack to a huge one."""

    def __init__(self, layer: bytes, what: str, budget: Budget) -> None:
        super().__init__(fileobj=io.BytesIO(layer))
        self._what = what
        self._budget = budget

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self._budget.left:
            raise LimitError(f"{self._what}: more than {MAX_UNPACKED} bytes when unpacked")
        data = super().read(size)
        self._budget.left -= len(data)
        return data
