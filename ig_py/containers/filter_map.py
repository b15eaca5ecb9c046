"""What follows the collection: the kernel's filter map, and the names for events.

Names are given to the stream before a mount namespace enters the map, and
taken away only when its number may mean another container, so that no event
passes the filter without its names (spec containers-k8s §2.2).
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from ig_py.containers.collection import Event, EventType
from ig_py.containers.model import Container
from ig_py.containers.selector import Selector

if TYPE_CHECKING:
    from ig_py._core import Map

log = logging.getLogger(__name__)

MAP_NAME = "gadget_mntns_filter_map"
DEFAULT_ENTRIES = 1024
"""Containers selected at once, as gadgets declare the map (§2.2)."""
_HASH = 1
"""BPF_MAP_TYPE_HASH."""
_KEY = struct.Struct("=Q")
_SELECTED = struct.pack("=I", 1)


class Names(Protocol):
    """The part of ``_core.Stream`` used here."""

    def set_container(
        self, mntns: int, netns: int, values: Mapping[str, str | int | bool]
    ) -> None: ...

    def drop_container(self, mntns: int) -> None: ...


class FilterMap:
    """The set of mount namespaces whose events pass, in the kernel.

    A full map is said once; those that found no room enter when there is some.
    """

    def __init__(self, kernel_map: Map, max_entries: int = DEFAULT_ENTRIES) -> None:
        self.map = kernel_map
        self._max = max_entries
        self._inside: set[int] = set()
        self._waiting: dict[int, Container] = {}
        self._said = False

    @classmethod
    def create(cls, max_entries: int = DEFAULT_ENTRIES) -> FilterMap:
        """*max_entries* must be the gadget's, whose map this one replaces.

        :raises CoreError: the kernel makes no map.
        """
        from ig_py._core import Map

        # Kernel names hold 15 characters.
        name = f"mntnsset_{os.urandom(3).hex()}"
        return cls(Map.create(name, _HASH, _KEY.size, len(_SELECTED), max_entries), max_entries)

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

    def remove(self, mntns: int) -> None:
        self._waiting.pop(mntns, None)
        if mntns not in self._inside:
            return
        self.map.delete(_KEY.pack(mntns))
        self._inside.discard(mntns)
        if self._waiting:
            self.add(self._waiting.pop(next(iter(self._waiting))))

    def __len__(self) -> int:
        return len(self._inside)

    def close(self) -> None:
        self.map.close()


class ContainerSync:
    """A collection's subscriber: keeps a stream's names and a filter map right.

    *filter_map* None (``--host``): names only.
    """

    def __init__(self, names: Names, filter_map: FilterMap | None, selector: Selector) -> None:
        self._names = names
        self._filter = filter_map
        self._selector = selector

    def __call__(self, event: Event) -> None:
        container = event.container
        mntns = container.mntns
        if not mntns or event.type is EventType.PRECREATE:
            return
        if event.type is EventType.DELETED:
            if self._filter is not None:
                self._filter.remove(mntns)
        elif event.type is EventType.EXPIRED:
            self._names.drop_container(mntns)
        else:
            self._names.set_container(mntns, container.netns, container.event_values())
            if self._filter is not None:
                if self._selected(container):
                    self._filter.add(container)
                else:
                    self._filter.remove(mntns)

    def _selected(self, container: Container) -> bool:
        # Without any name it is a pod's pause container.
        named = container.runtime.container_name or container.k8s.container_name
        return bool(named) and self._selector.matches(container)
