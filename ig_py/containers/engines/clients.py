"""The clients of all engines that are asked, and which of them answer."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable
from functools import partial

from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.engines.engine import JOIN_SECONDS, EngineClient, EngineSink
from ig_py.containers.engines.reports import ClaimSink, EngineReports

USER_SECONDS = 0.5
"""How long the engines of users are waited for in all. Root's have their own time."""

_CLIENTS = {
    ("docker", "internal"): ("ig_py.containers.engines.docker", "DockerClient"),
    ("containerd", "internal"): ("ig_py.containers.engines.containerd", "ContainerdClient"),
    ("podman", "internal"): ("ig_py.containers.engines.podman", "PodmanClient"),
    ("podman", "cri"): ("ig_py.containers.engines.podman", "PodmanClient"),
}
"""Name of an engine and protocol → module and class; every other one is asked by CRI."""
_CRI_CLIENT = ("ig_py.containers.engines.cri", "CriClient")


def make_client(config: EngineConfig, sink: EngineSink) -> EngineClient:
    """The client that *config* asks for, not started."""
    module, name = _CLIENTS.get((config.name, config.protocol), _CRI_CLIENT)
    client: EngineClient = getattr(importlib.import_module(module), name)(config, sink)
    return client


class EngineClients:
    """Thread-safe. An engine may have several clients: each user's podman has its own socket.

    *owner* of a container's process (``Process.owner``): only the engines that may speak of it are
    asked about, so that a user's engine cannot hold up the containers of other users.
    """

    def __init__(self, configs: Iterable[EngineConfig], sink: ClaimSink) -> None:
        self.clients: list[EngineClient] = []
        for config in configs:
            reports = EngineReports(sink)
            client = make_client(config, reports)
            reports.speaker = partial(getattr, client, "speaker")
            self.clients.append(client)

    def start(self) -> None:
        for client in self.clients:
            client.start()

    def stop(self) -> None:
        for client in self.clients:
            client.cancel()
        deadline = time.monotonic() + JOIN_SECONDS
        for client in self.clients:
            client.join(max(0.0, deadline - time.monotonic()))

    def wait_listed(self, seconds: float) -> bool:
        """Wait until every engine has listed its containers, or is known not to answer; False
        when *seconds* were not enough for one of root's."""
        now = time.monotonic()
        users = now + min(seconds, USER_SECONDS)
        listed = self._wait([c for c in self.clients if c.speaker.is_root], now + seconds)
        self._wait([c for c in self.clients if not c.speaker.is_root], users)
        return listed

    @property
    def listed(self) -> bool:
        """Whether every engine of root's has listed its containers, or does not answer."""
        return all(client.listed for client in self.clients if client.speaker.is_root)

    def asked(self, engine: str, owner: int | None = None) -> bool:
        """Whether the engine of that name is asked for its containers."""
        return bool(self._of(engine, owner))

    def answers(self, engine: str = "", owner: int | None = None) -> bool:
        """Whether the engine of that name answers, and so will describe its containers; "" for
        any engine."""
        clients = self._of(engine, owner) if engine else self.clients
        return any(client.connected for client in clients)

    def may_answer(self, engine: str, owner: int | None = None) -> bool:
        """Whether it has not answered yet, and has not failed either; "" for any engine."""
        return any(not c.connected and not c.error for c in self._of(engine, owner))

    def silent(self, engine: str, owner: int | None = None) -> bool:
        """Whether it is asked and does not answer. For the name of no engine that is asked:
        whether any of those that are asked does not answer."""
        own = self._of(engine, owner) or self._of("", owner)
        return any(not client.connected for client in own)

    def restricted(self, engine: str) -> bool:
        """Whether the user wants the containers of some of its namespaces only."""
        return any(c.name == engine and c.config.namespaces for c in self.clients)

    def _of(self, engine: str, owner: int | None) -> list[EngineClient]:
        """The clients of that engine, "" for all, which may speak of containers of *owner*."""
        return [
            client
            for client in self.clients
            if (not engine or client.name == engine) and client.speaker.may_speak_of(owner)
        ]

    @staticmethod
    def _wait(clients: list[EngineClient], deadline: float) -> bool:
        return all([c.wait_listed(max(0.0, deadline - time.monotonic())) for c in clients])
