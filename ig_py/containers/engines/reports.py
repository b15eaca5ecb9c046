"""What a client reports, together with whose word it is: that of the user whose engine it asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ig_py.containers.model import Container
from ig_py.containers.speakers import NOBODY, Claim, Rank, Speaker, claim


class ClaimSink(Protocol):
    """As ``EngineSink``, with the claim on which a report rests: the discovery."""

    def describe(self, container: Container, by: Claim) -> None: ...

    def ignore(self, container_id: str, by: Claim) -> None: ...

    def started(self, container: Container, pid: int, by: Claim) -> None: ...

    def renamed(self, container_id: str, name: str, by: Claim) -> None: ...

    def died(self, container_id: str, by: Claim) -> None: ...

    def forget(self, container_id: str, by: Claim) -> None: ...

    def find_init(self, container_id: str) -> int | None: ...

    def live(self, container_id: str, by: Claim) -> bool: ...

    def owns(self, container_id: str, pid: int, asked: float) -> bool: ...

    def serving(self, engine: str, pid: int, by: Claim) -> None: ...

    def state_root(self, root: str, runtime: str, pid: int, by: Claim) -> None: ...


class EngineReports:
    """The ``EngineSink`` of one client. *speaker* tells whose engine it is."""

    def __init__(self, sink: ClaimSink) -> None:
        self._sink = sink
        self.speaker: Callable[[], Speaker] = lambda: NOBODY

    @property
    def _claim(self) -> Claim:
        return claim(self.speaker(), Rank.ROOT_ENGINE)

    def describe(self, container: Container) -> None:
        self._sink.describe(container, self._claim)

    def ignore(self, container_id: str) -> None:
        self._sink.ignore(container_id, self._claim)

    def started(self, container: Container, pid: int) -> None:
        self._sink.started(container, pid, self._claim)

    def renamed(self, container_id: str, name: str) -> None:
        self._sink.renamed(container_id, name, self._claim)

    def died(self, container_id: str) -> None:
        self._sink.died(container_id, self._claim)

    def forget(self, container_id: str) -> None:
        self._sink.forget(container_id, self._claim)

    def find_init(self, container_id: str) -> int | None:
        # The control groups where that looks are root's.
        return self._sink.find_init(container_id) if self.speaker().is_root else None

    def live(self, container_id: str) -> bool:
        return self._sink.live(container_id, self._claim)

    def owns(self, container_id: str, pid: int, asked: float) -> bool:
        return self._sink.owns(container_id, pid, asked)

    def serving(self, engine: str, pid: int) -> None:
        self._sink.serving(engine, pid, self._claim)

    def state_root(self, root: str, runtime: str, pid: int) -> None:
        self._sink.state_root(root, runtime, pid, self._claim)
