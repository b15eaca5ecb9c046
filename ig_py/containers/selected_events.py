"""What happens to selected containers, as it is shown: each one is created once and deleted once.

A container may be in the collection before its engine has told its name, so a selector may decide
about it only when the name is told, or decide otherwise after a rename.
"""

from __future__ import annotations

from collections.abc import Callable

from ig_py.containers.collection import Event, EventType, Subscriber
from ig_py.containers.model import Container
from ig_py.records import replace


class SelectedEvents:
    """A subscriber of a collection, which calls *show* for the containers that *selected* chooses.

    CREATED: it is selected now. UPDATED: it has another name or image. DELETED: it has ended, or is
    not selected any more. PRECREATE is passed on: such a container has no name to be selected by.
    """

    def __init__(self, selected: Callable[[Container], bool], show: Subscriber) -> None:
        self._selected = selected
        self._show = show
        self._shown: dict[str, Container] = {}

    def __call__(self, event: Event) -> None:
        container = event.container
        if event.type is EventType.PRECREATE:
            self._show(event)
        elif event.type is EventType.DELETED:
            if self._shown.pop(container.id, None) is not None:
                self._show(event)
        elif event.type in (EventType.CREATED, EventType.UPDATED):
            self._change(event)

    def _change(self, event: Event) -> None:
        container = event.container
        before = self._shown.pop(container.id, None)
        if self._selected(container):
            self._shown[container.id] = container
            if before is None:
                self._show(replace(event, type=EventType.CREATED))
            elif (before.runtime, before.k8s) != (container.runtime, container.k8s):
                self._show(replace(event, type=EventType.UPDATED))
        elif before is not None:
            self._show(replace(event, type=EventType.DELETED))
