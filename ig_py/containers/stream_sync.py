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
    from ig_py.containers.ended_rows import EndedRows

log = logging.getLogger(__name__)

KEEP, REJECT, LOSE = "keep", "reject", "lose"
"""Verdicts about the events of a namespace that wait, and those to come."""
MAX_LOST = 1024
"""Unidentified namespaces whose events are counted as lost: the latest ones."""


class ContainerStream(Protocol):
    """The part of ``_core.Stream`` used here."""

    def set_container(
        self, mntns: int, netns: int, values: Mapping[str, str | int | bool]
    ) -> None: ...

    def end_container(self, mntns: int) -> None: ...

    def drop_container(self, mntns: int) -> None: ...

    def end_rows(self, mntns: int, generation: int, /) -> None: ...

    def decide(self, mntns: int, generation: int, verdict: str, /) -> None: ...

    def decide_ended(
        self,
        mntns: int,
        generation: int,
        verdict: str,
        ended: tuple[int, Mapping[str, str | int | bool]],
        holder: tuple[int, Mapping[str, str | int | bool]],
        /,
    ) -> None: ...

    def wake(self) -> None: ...


class StreamSync:
    """A subscriber of the collection, and an ``AdmissionSubscriber``: keeps a stream's names and a
    filter map to the containers, and decides about the events that wait for theirs.

    *filter_map* None (``--host``): names only. *admission* None: no event waits. *ended* gets the
    namespaces whose rows are to be taken out of maps; None: there are no maps with rows.
    """

    def __init__(
        self,
        stream: ContainerStream,
        filter_map: FilterMap | None,
        selector: Selector,
        admission: Admission | None = None,
        ended: EndedRows | None = None,
    ) -> None:
        self._stream = stream
        self._filter = filter_map
        self._selector = selector
        self._admission = admission
        self._ended = ended
        self._holders: dict[int, Container] = {}
        """The container that has a mount namespace, or had it until its grace time is over."""
        self._unnamed: set[int] = set()
        """Mount namespaces of containers whose names no engine has told yet."""
        self._lost: dict[int, int] = {}
        """Unidentified mount namespaces, which stay in the filter map so that their events are
        counted as lost → generation."""

    def __call__(self, event: Event) -> None:
        container, generation = event.container, event.generation
        mntns = container.mntns
        if not mntns or event.type is EventType.PRECREATE:
            return
        holder = self._holders.get(mntns)
        if generation and holder is not None:
            self._ended_before(event, holder)
            return
        self._lost.pop(mntns, None)
        self._unnamed.discard(mntns)
        if event.type is EventType.DELETED:
            self._leave(mntns, generation)
            self._stream.end_container(mntns)
            self._end_rows(mntns, generation)
        elif event.type is EventType.EXPIRED:
            self._holders.pop(mntns, None)
            self._stream.drop_container(mntns)
        else:
            if not generation:
                self._holders[mntns] = container
            self._stream.set_container(mntns, container.netns, container.event_values())
            verdict = self._verdict(container, named=event.named)
            if verdict == LOSE:
                self._unnamed.add(mntns)
                log.warning(
                    "container %.12s: no engine has told its name, events of its start are lost",
                    container.id,
                )
            # The inode number of a container that has ended may be a later namespace's by now.
            if not generation:
                self._apply(container, verdict)
                if self._ended is not None:
                    self._ended.unpin(mntns)
            if self._admission is not None:
                self._stream.decide(mntns, generation, verdict)

    def _ended_before(self, event: Event, holder: Container) -> None:
        """A container had ended before *holder* got the number of its namespace, and was identified
        later: nothing changes for *holder*."""
        container, generation = event.container, event.generation
        if event.type is EventType.DELETED or self._admission is None:
            return
        self._stream.decide_ended(
            container.mntns,
            generation,
            self._verdict(container, named=event.named),
            (container.netns, container.event_values()),
            (holder.netns, holder.event_values()),
        )

    def announced(self, mntns: int, process: str) -> None:
        if self._ended is not None:
            self._ended.pin(mntns, process)

    def _end_rows(self, mntns: int, generation: int) -> None:
        if self._ended is not None:
            self._stream.end_rows(mntns, generation)
            self._ended.end(mntns)
            self._stream.wake()

    def readmit(self, container: Container, generation: int) -> None:
        verdict = self._verdict(container, named=container.mntns not in self._unnamed)
        self._apply(container, verdict)
        if self._ended is not None:
            self._ended.unpin(container.mntns)
        self._stream.decide(container.mntns, generation, verdict)

    def reject(self, mntns: int, generation: int, *, lose: bool, superseded: bool = False) -> None:
        holder = self._holders.get(mntns)
        if self._filter is None and holder is not None:
            # It had the number before: its events have no names, and those of the holder stay.
            names = holder.netns, holder.event_values()
            self._stream.decide_ended(mntns, generation, KEEP, (0, {}), names)
        elif self._filter is None:
            # An earlier container may have had the inode number.
            if not superseded:
                self._stream.drop_container(mntns)
            self._stream.decide(mntns, generation, KEEP)
        elif lose:
            self._lose(mntns, generation)
        else:
            self._leave(mntns, generation)
            self._stream.decide(mntns, generation, REJECT)
        if self._filter is not None:
            self._end_rows(mntns, generation)
        elif self._ended is not None:
            self._ended.unpin(mntns)

    def _lose(self, mntns: int, generation: int) -> None:
        self._lost.pop(mntns, None)
        self._lost[mntns] = generation
        self._stream.decide(mntns, generation, LOSE)
        if len(self._lost) > MAX_LOST:
            first = next(iter(self._lost))
            self._leave(first, self._lost.pop(first))

    def _apply(self, container: Container, verdict: str) -> None:
        if self._filter is None:
            return
        if verdict != REJECT:
            # Of one without a name too: events that pass are counted as lost.
            self._filter.add(container)
        else:
            self._filter.remove(container.mntns, pending=self._admission is not None)

    def _leave(self, mntns: int, generation: int) -> None:
        if self._filter is None:
            return
        if generation and self._admission is not None:
            self._admission.withdraw(self._filter.map, mntns, generation)
        else:
            self._filter.remove(mntns, pending=self._admission is not None)

    def _verdict(self, container: Container, *, named: bool = True) -> str:
        if self._filter is None:
            return KEEP
        if not named and not self._selector.everything:
            return LOSE
        # A container without any name is a pod's pause container.
        has_name = container.runtime.container_name or container.k8s.container_name
        return KEEP if has_name and self._selector.matches(container) else REJECT
