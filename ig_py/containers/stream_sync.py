"""A run's event stream kept to the collection of containers: names, and verdicts on events.

Names are given to the stream before a mount namespace enters the filter map, and are taken away
only when its inode number may mean another container. So no event passes the filter without the
names of its container (docs/reference/ebpf.md#maps-and-variables-known-by-name).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from ig_py.containers.collection import Event, EventType
from ig_py.containers.filter_map import FilterMap
from ig_py.containers.model import Container
from ig_py.containers.selector import Selector

if TYPE_CHECKING:
    from ig_py.containers.admission import Admission

log = logging.getLogger(__name__)

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


class StreamSync:
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
