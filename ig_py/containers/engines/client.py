"""What a container runtime's client is; one file a runtime implements it.

A client runs in threads of its own and tells a :class:`Sink` what its engine
says. It must survive an engine that is absent, slow, wrong, or stops and
comes back, and ``stop`` must not wait for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from ig_py.containers.model import Container
from ig_py.errors import ContainerError, UsageError
from ig_py.host.proc import HostView
from ig_py.records import dataclass, replace

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
CRI_DOCKER_SOCKET = "/run/cri-dockerd.sock"
"""Where Docker's CRI adaptor listens; no flag changes that."""
ROOTLESS_PODMAN = "run/user/*/podman/podman.sock"
ENGINELESS = "runc"
"""Name of what finds containers that no engine knows (started by runc or crun alone)."""
MAX_USERS = 64
PROTOCOLS = ("internal", "cri")
DOCKER_NAMESPACE = "moby"
"""containerd's namespace for Docker's containers."""


class Sink(Protocol):
    """Where a client reports; every method may be called from any thread."""

    def describe(self, container: Container) -> None:
        """A container exists (running or not): what is known of it but its process."""

    def ignore(self, container_id: str) -> None:
        """It runs, but is only what holds a pod together."""

    def started(self, container: Container, pid: int) -> None:
        """A container runs, with *pid* as its init."""

    def renamed(self, container_id: str, name: str) -> None: ...

    def died(self, container_id: str) -> None:
        """Its init ended, says the engine."""

    def forget(self, container_id: str) -> None:
        """The container does not exist any more."""

    def find_init(self, container_id: str) -> int | None:
        """Init's pid by other means than the engine, when certain."""

    def live(self, container_id: str) -> bool:
        """True when it is in the collection."""

    def owns(self, container_id: str, pid: int) -> bool:
        """True when *pid* is in a cgroup named by the container (guards against pid reuse)."""


class RuntimeClient(Protocol):
    """One engine."""

    name: str
    config: RuntimeConfig
    socket_path: str
    error: str
    """Why the engine does not answer; "" when it does, or was not asked yet."""

    @property
    def containers(self) -> int:
        """How many run, as far as the engine said."""

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
    """One engine to ask.

    ``explicit``: the user named it or its socket, so that a missing socket is
    an error instead of "not installed". ``protocol`` is ``internal`` (its own)
    or ``cri``. Of containerd's namespaces the ``namespaces`` are used, or when
    there are none, all but ``others_namespaces``.
    """

    name: str
    socket_path: str
    explicit: bool = False
    protocol: str = "internal"
    namespaces: tuple[str, ...] = ()
    others_namespaces: tuple[str, ...] = ()


def runtime_configs(
    runtimes: str,
    sockets: dict[str, str],
    view: HostView,
    *,
    containerd_namespaces: str = "",
    protocol: str = "",
) -> list[RuntimeConfig]:
    """The clients to create, sorted by name.

    *runtimes* is the comma list of ``--runtimes``, *sockets* runtime name →
    socket path ("" : environment, then default), *containerd_namespaces* a
    comma list, *protocol* of ``--runtime-protocol``.

    :raises UsageError: an unknown runtime or protocol.
    :raises ContainerError: one named by the user whose socket does not exist.
    """
    if (protocol or "internal") not in PROTOCOLS:
        raise UsageError(
            f"--runtime-protocol: {protocol!a} is not supported",
            remedy=f"give one of {', '.join(PROTOCOLS)}",
        )
    names = sorted({name for name in runtimes.split(",") if name})
    everything = set(names) >= set(DEFAULT_SOCKETS)
    configs = []
    for name in names:
        if name == ENGINELESS:
            continue
        if name not in DEFAULT_SOCKETS:
            raise UsageError(
                f"invalid argument '--runtime / -r': runtime {name!a} is not supported",
                remedy=f"give some of {', '.join((*DEFAULT_SOCKETS, ENGINELESS))}",
            )
        path = _socket_path(name, sockets.get(name, ""))
        if name == "docker" and protocol == "cri":
            path = CRI_DOCKER_SOCKET
        explicit = not everything or path not in (DEFAULT_SOCKETS[name], CRI_DOCKER_SOCKET)
        configs.append(RuntimeConfig(name, view.path(path), explicit, protocol or "internal"))
    for config in configs:
        if config.explicit and (why := why_missing(config.socket_path)):
            raise ContainerError(
                f"runtime {config.name}: {config.socket_path!a}: {why}",
                remedy=f"start the engine, or correct --{SOCKET_PARAMS[config.name]}",
            )
    return [c for config in configs for c in _completed(config, configs, containerd_namespaces)]


def why_missing(socket_path: str) -> str:
    """Why there is nothing to be talked to at *socket_path*; "" when there is."""
    try:
        os.stat(socket_path)  # noqa: PTH116 (Path.exists() raises what it cannot tell)
    except (FileNotFoundError, NotADirectoryError):
        return "no such socket"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def engineless(runtimes: str) -> bool:
    """Whether containers that no engine knows are wanted: with every engine, or when named."""
    names = set(runtimes.split(","))
    return names >= set(DEFAULT_SOCKETS) or ENGINELESS in names


def _completed(
    config: RuntimeConfig, configs: list[RuntimeConfig], namespaces: str
) -> list[RuntimeConfig]:
    if config.name == "podman" and not config.explicit:
        return [config, *_rootless_podman(config)]
    if config.name != "containerd":
        return [config]
    docker = any(c.name == "docker" and not why_missing(c.socket_path) for c in configs)
    return [
        replace(
            config,
            namespaces=tuple(n for n in namespaces.split(",") if n),
            others_namespaces=(DOCKER_NAMESPACE,) if docker else (),
        )
    ]


def _rootless_podman(config: RuntimeConfig) -> list[RuntimeConfig]:
    """Each user's own podman has its own socket."""
    root = config.socket_path.removesuffix(DEFAULT_SOCKETS["podman"]) or "/"
    found = sorted(str(path) for path in Path(root).glob(ROOTLESS_PODMAN))
    return [replace(config, socket_path=path) for path in found[:MAX_USERS]]


def _socket_path(name: str, given: str) -> str:
    variable = f"INSPEKTOR_GADGET_{name.replace('-', '').upper()}_SOCKETPATH"
    path = given or os.environ.get(variable, "") or DEFAULT_SOCKETS[name]
    return path.removeprefix("unix://")
