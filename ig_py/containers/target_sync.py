"""From the collection of containers to what programs are attached to."""

from __future__ import annotations

from ig_py.containers.collection import Event, EventType
from ig_py.containers.model import Container
from ig_py.containers.selector import Selector
from ig_py.containers.targets import Target, Targets


class TargetSync:
    """A collection's subscriber: keeps *targets* to the containers that *selector* selects."""

    def __init__(self, targets: Targets, selector: Selector) -> None:
        self._targets = targets
        self._selector = selector

    def __call__(self, event: Event) -> None:
        container = event.container
        if event.type in (EventType.CREATED, EventType.UPDATED) and self._selected(container):
            runtime = container.runtime
            self._targets.add(
                Target(
                    container.id,
                    runtime.container_name or container.k8s.container_name,
                    runtime.pid,
                    container.mntns,
                    container.netns,
                    container.host_network,
                    container.owner,
                )
            )
        elif event.type is not EventType.EXPIRED:
            self._targets.remove(container.id)

    def _selected(self, container: Container) -> bool:
        # A container without any name is a pod's pause container.
        named = container.runtime.container_name or container.k8s.container_name
        return bool(named and container.runtime.pid) and self._selector.matches(container)
