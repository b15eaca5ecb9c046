"""The kernel map of the mount namespaces whose events pass (``gadget_mntns_filter_map``)."""

from __future__ import annotations

import logging
import os
import struct
from typing import TYPE_CHECKING

from ig_py.containers.model import Container
from ig_py.errors import KernelError

if TYPE_CHECKING:
    from ig_py._core import Map

log = logging.getLogger(__name__)

ENTRIES = 16384
"""Containers selected at once; gadgets declare 1024. It costs about a megabyte."""
_HASH = 1
"""BPF_MAP_TYPE_HASH."""
_KEY = struct.Struct("=Q")
_SELECTED = struct.pack("=I", 1)


class FilterMap:
    """The set of mount namespaces whose events pass, in the kernel.

    That the map is full is said once. Containers that find no room enter when others leave.
    """

    def __init__(self, kernel_map: Map, max_entries: int = ENTRIES) -> None:
        self.map = kernel_map
        self._max = max_entries
        self._inside: set[int] = set()
        self._waiting: dict[int, Container] = {}
        self._said = False

    @classmethod
    def create(cls, max_entries: int = ENTRIES) -> FilterMap:
        """*max_entries*: at least the gadget's, whose map this one replaces.

        Raises:
            KernelError: The kernel makes no map.
        """
        from ig_py._core import CoreError, Map

        # Names of kernel maps hold 15 characters (BPF_OBJ_NAME_LEN).
        name = f"mntnsset_{os.urandom(3).hex()}"
        try:
            kernel_map = Map.create(name, _HASH, _KEY.size, len(_SELECTED), max_entries)
        except CoreError as error:
            raise KernelError(f"creating the container filter map: {error.message}") from error
        return cls(kernel_map, max_entries)

    def add(self, container: Container) -> None:
        mntns = container.mntns
        if not mntns or mntns in self._inside:
            return
        if len(self._inside) >= self._max:
            self._waiting[mntns] = container
            if not self._said:
                self._said = True
                log.warning(
                    "the container filter is full (%d entries): container %a and later ones"
                    " are not traced until others end",
                    self._max,
                    container.runtime.container_name,
                )
            return
        self.map.update(_KEY.pack(mntns), _SELECTED)
        self._inside.add(mntns)

    def remove(self, mntns: int, *, pending: bool = False) -> None:
        """*pending*: the kernel's scout may have put *mntns* there."""
        self._waiting.pop(mntns, None)
        inside = mntns in self._inside
        if inside or pending:
            self.map.delete(_KEY.pack(mntns))
        if not inside:
            return
        self._inside.discard(mntns)
        if self._waiting:
            self.add(self._waiting.pop(next(iter(self._waiting))))

    def __len__(self) -> int:
        return len(self._inside)

    def close(self) -> None:
        self.map.close()
