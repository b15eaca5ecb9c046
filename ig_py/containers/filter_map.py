"""What follows the collection: the kernel's filter map, and the names for events.

Names are given to the stream before a mount namespace enters the map, and
taken away only when its number may mean another container, so that no event
passes the filter without its names (docs/reference/ebpf.md#maps-and-variables-known-by-name).
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
    from ig_py.containers.admission import Admission

log = logging.getLogger(__name__)

MAP_NAME = "gadget_mntns_filter_map"
ENTRIES = 16384
"""Containers selected at once; gadgets declare 1024. It costs about a megabyte."""
_HASH = 1
"""BPF_MAP_TYPE_HASH."""
_KEY = struct.Struct("=Q")
_SELECTED = struct.pack("=I", 1)
KEEP, REJECT, LOSE = "keep", "reject", "lose"
"""Verdicts about the events of a namespace that wait, and those to come."""


class Names(Protocol):
    """The part of ``_core.Stream`` used here."""

    def set_container(
        self, mntns: int, netns: int, values: Mapping[str, str | int | bool]
    ) -> None: ...

    def end_container(self, mntns: int) -> None: ...

    def drop_container(self, mntns: int) -> None: ...

    def decide(self, mntns: int, birth: int, verdict: str) -> None: ...


class FilterMap:
    """The set of mount namespaces whose events pass, in the kernel.

    A full map is said once; those that found no room enter when there is some.
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

    def remove(self, mntns: int, *, pending: bool = False) -> None:
        """*pending*: the kernel's scout may have put it there."""
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


class ContainerSync:
    """A collection's subscriber: keeps a stream's names and a filter map right, and decides
    about the events that wait for their container.

    *filter_map* None (``--host``): names only. *admission* None: no event waits.
    """

    def __init__(
        self,
        names: Names,
        filter_map: FilterMap | None,
        selector: Selector,
        admission: Admission | None = None,
    ) -> None:
        self._names = names
        self._filter = filter_map
        self._selector = selector
        self._admission = admission

    def __call__(self, event: Event) -> None:
        container = event.container
        mntns = container.mntns
        if not mntns or event.type is EventType.PRECREATE:
            return
        ended = self._admission.ended.get(container.id, 0) if self._admission else 0
        if event.type is EventType.DELETED:
            self._leave(mntns, ended)
            self._names.end_container(mntns)
        elif event.type is EventType.EXPIRED:
            self._names.drop_container(mntns)
        else:
            self._names.set_container(mntns, container.netns, container.event_values())
            verdict = self._verdict(container)
            if not ended:
                self._let(container, verdict)
            if self._admission is not None:
                self._names.decide(mntns, ended, verdict)

    def _let(self, container: Container, verdict: str) -> None:
        if self._filter is None:
            return
        if verdict == KEEP:
            self._filter.add(container)
        else:
            self._filter.remove(container.mntns, pending=self._admission is not None)

    def again(self, container: Container, birth: int) -> None:
        """Of the scout's follower: a container that is known waits to be decided about anew."""
        verdict = self._verdict(container)
        self._let(container, verdict)
        self._names.decide(container.mntns, birth, verdict)

    def reject(self, mntns: int, birth: int, *, lose: bool) -> None:
        """Of the scout's follower: a pending namespace is no container."""
        if self._filter is None:
            # An earlier container may have had the number.
            self._names.drop_container(mntns)
            self._names.decide(mntns, birth, KEEP)
        else:
            self._leave(mntns, birth)
            self._names.decide(mntns, birth, LOSE if lose else REJECT)

    def _leave(self, mntns: int, birth: int) -> None:
        if self._filter is None:
            return
        if birth and self._admission is not None:
            self._admission.withdraw(self._filter.map, mntns, birth)
        else:
            self._filter.remove(mntns, pending=self._admission is not None)

    def _verdict(self, container: Container) -> str:
        if self._filter is None:
            return KEEP
        unnamed = self._admission is not None and container.id in self._admission.unnamed
        if unnamed and not self._selector.everything:
            log.warning(
                "container %.12s: no engine has told its name, events of its start are lost",
                container.id,
            )
            return LOSE
        # Without any name it is a pod's pause container.
        named = container.runtime.container_name or container.k8s.container_name
        return KEEP if named and self._selector.matches(container) else REJECT
