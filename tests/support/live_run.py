"""A gadget that runs, as operators see it, without a kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ig_py.host.proc import HostView
from ig_py.operators.running import Host, Running


class FixedContainers:
    """A ContainerLookup that selects the mount namespaces *selected*."""

    def __init__(self, *selected: int) -> None:
        self.selected = selected

    def name_of(self, mntns: int) -> str:
        return f"c{mntns}" if mntns in self.selected else ""

    def selects(self, mntns: int) -> bool:
        return mntns in self.selected

    def open_netns(self) -> list[int]:
        return []


def running(
    stream: Any = None,
    emit: Callable[[str, Sequence[bytes]], None] = lambda _datasource, _samples: None,
    view: HostView | None = None,
) -> Running:
    """What an operator is started with; *view*: by default of HOST_ROOT."""
    return Running(Host(view or HostView.from_env()), stream, None, emit)
