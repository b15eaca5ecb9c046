"""The clients of all engines that are asked, and which of them answer."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable

from ig_py.containers.engines.config import EngineConfig
from ig_py.containers.engines.engine import EngineClient, EngineSink

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
    """Thread-safe. An engine may have several clients: each user's podman has its own socket."""

    def __init__(self, configs: Iterable[EngineConfig], sink: EngineSink) -> None:
        self.clients = [make_client(config, sink) for config in configs]

    def start(self) -> None:
        for client in self.clients:
            client.start()

    def stop(self) -> None:
        for client in self.clients:
            client.stop()

    def wait_listed(self, seconds: float) -> bool:
        """Wait until every engine has listed its containers, or is known not to answer; False
        when *seconds* were not enough for one of them."""
        deadline = time.monotonic() + seconds
        return all([c.wait_listed(max(0.0, deadline - time.monotonic())) for c in self.clients])

    def asked(self, engine: str) -> bool:
        """Whether the engine of that name is asked for its containers."""
        return any(client.name == engine for client in self.clients)

    def answers(self, engine: str = "") -> bool:
        """Whether the engine of that name answers, and so will describe its containers; "" for
        any engine."""
        clients = (c for c in self.clients if not engine or c.name == engine)
        return any(client.connected for client in clients)

    def may_answer(self, engine: str) -> bool:
        """Whether it has not answered yet, and has not failed either."""
        clients = (client for client in self.clients if client.name == engine)
        return any(not client.connected and not client.error for client in clients)

    def silent(self, engine: str) -> bool:
        """Whether it is asked and does not answer. For the name of no engine that is asked:
        whether any of those that are asked does not answer."""
        own = [client for client in self.clients if client.name == engine]
        return any(not client.connected for client in own or self.clients)

    def restricted(self, engine: str) -> bool:
        """Whether the user wants the containers of some of its namespaces only."""
        return any(c.name == engine and c.config.namespaces for c in self.clients)
