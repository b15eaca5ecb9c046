"""Containers: who runs on this host, and which mount and network namespaces are theirs.

``model`` (a container as plain data) · ``selector`` (which ones) · ``collection`` (the live set,
with a memory of the recently gone) · ``cgroups`` (their init process, before its first exec) ·
``engines`` (the clients of container engines) · ``discovery`` (all of these, running) ·
``filter_map`` (the kernel map and the enrichment that follow the set).
"""

from __future__ import annotations

from ig_py.containers.collection import ContainerCollection, Event, EventType
from ig_py.containers.model import Container, KubernetesInfo, RuntimeInfo
from ig_py.containers.selector import Selector

__all__ = [
    "Container",
    "ContainerCollection",
    "Event",
    "EventType",
    "KubernetesInfo",
    "RuntimeInfo",
    "Selector",
]
