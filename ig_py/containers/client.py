"""What a container runtime's client is; one file a runtime implements it.

A client runs in threads of its own and tells a :class:`Sink` what its engine
says. It must survive an engine that is absent, slow, wrong, or stops and
comes back, and ``stop`` must not wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from ig_py.containers.model import Container
from ig_py.containers.proc import HostView
from ig_py.errors import ContainerError, UsageError
from ig_py.records import dataclass

DEFAULT_SOCKETS = {
    "docker": "/run/docker.sock",
    "containerd": "/run/containerd/containerd.sock",
    "cri-o": "/run/crio/crio.sock",
    "podman": "/run/podman/podman.sock",
}
SOCKET_PARAMS = {
    "docker": "docker-socketpath",
    "containerd": "containerd-socketpath",
    "cri-o": "crio-socketpath",
    "podman": "podman-socketpath",
}
SUPPORTED = ("docker",)


class Sink(Protocol):
    """Where a client reports; every method may be called from any thread."""

    def describe(self, container: Container) -> None:
        """A container exists (running or not): what is known of it but its process."""

    def started(self, container: Container, pid: int) -> None:
        """A container runs, with *pid* as its init."""

    def renamed(self, container_id: str, name: str) -> None: ...

    def died(self, container_id: str) -> None:
        """Its init ended, says the engine."""

    def forget(self, container_id: str) -> None:
        """The container does not exist any more."""

    def running(self, runtime: str, container_ids: Collection[str]) -> None:
        """All that run now: others of that runtime are gone."""

    def find_init(self, container_id: str) -> int | None:
        """Init's pid by other means than the engine, when certain."""

    def live(self, container_id: str) -> bool:
        """True when it is in the collection."""

    def owns(self, container_id: str, pid: int) -> bool:
        """True when *pid* is in a cgroup named by the container (guards against pid reuse)."""


class RuntimeClient(Protocol):
    """One engine."""

    name: str
    socket_path: str

    def start(self) -> None: ...

    def wait_listed(self, seconds: float) -> bool:
        """Wait until the containers of the first listing were reported, or it is
        known that no engine answers; False when that took longer."""

    @property
    def connected(self) -> bool: ...

    def stop(self) -> None:
        """Return within about a second, with the threads ended."""


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """One runtime to use. ``explicit``: the user named it or its socket, so that
    a missing socket is an error instead of "not installed"."""

    name: str
    socket_path: str
    explicit: bool = False


def runtime_configs(runtimes: str, sockets: dict[str, str], view: HostView) -> list[RuntimeConfig]:
    """The clients to create, sorted by name (§1.5).

    *runtimes* is the comma list of ``--runtimes``, *sockets* runtime name →
    socket path ("" : environment, then default).

    :raises UsageError: an unknown runtime.
    :raises ContainerError: one named by the user that is not supported yet, or
        whose socket does not exist.
    """
    names = sorted({name for name in runtimes.split(",") if name})
    everything = set(names) == set(DEFAULT_SOCKETS)
    configs = []
    for name in names:
        if name not in DEFAULT_SOCKETS:
            raise UsageError(
                f"--runtimes: runtime {name!a} is not supported",
                remedy=f"give some of {', '.join(DEFAULT_SOCKETS)}",
            )
        path = _socket_path(name, sockets.get(name, ""))
        explicit = not everything or path != DEFAULT_SOCKETS[name]
        if name not in SUPPORTED:
            if explicit:
                raise ContainerError(
                    f"tracing containers of {name}: this version has no client for it",
                    remedy=f"--runtimes={','.join(SUPPORTED)}",
                )
            continue
        configs.append(RuntimeConfig(name, view.path(path), explicit))
    for config in configs:
        if config.explicit and not Path(config.socket_path).exists():
            raise ContainerError(
                f"runtime {config.name}: there is no socket {config.socket_path!a}",
                remedy=f"start the engine, or correct --{SOCKET_PARAMS[config.name]}",
            )
    return configs


def _socket_path(name: str, given: str) -> str:
    variable = f"INSPEKTOR_GADGET_{name.replace('-', '').upper()}_SOCKETPATH"
    path = given or os.environ.get(variable, "") or DEFAULT_SOCKETS[name]
    return path.removeprefix("unix://")
