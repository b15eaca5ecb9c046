"""Which container engines are asked, and at which sockets."""

from __future__ import annotations

import os
from pathlib import Path

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
UNMANAGED = "runc"
"""Name, in ``--runtimes``, for containers that no engine knows (runc or crun started them)."""
MAX_USERS = 64
PROTOCOLS = ("internal", "cri")
DOCKER_NAMESPACE = "moby"
"""containerd's namespace for Docker's containers."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One engine to ask.

    ``explicit``: the user named it or its socket, so a missing socket is an error instead of "not
    installed". ``protocol`` is ``internal`` (the engine's own) or ``cri``. Of containerd's
    namespaces the ``namespaces`` are used, or when there are none, all but ``others_namespaces``.
    """

    name: str
    socket_path: str
    explicit: bool = False
    protocol: str = "internal"
    namespaces: tuple[str, ...] = ()
    others_namespaces: tuple[str, ...] = ()


def engine_configs(
    runtimes: str,
    sockets: dict[str, str],
    view: HostView,
    *,
    containerd_namespaces: str = "",
    protocol: str = "",
) -> list[EngineConfig]:
    """The clients to create, sorted by name.

    *runtimes* is the comma list of ``--runtimes``, *sockets* name of an engine → path of its
    socket ("": from the environment, else the default), *containerd_namespaces* a comma list,
    *protocol* of ``--runtime-protocol``.

    Raises:
        UsageError: There is no such engine or protocol.
        ContainerError: An engine that the user named has no socket.
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
        if name == UNMANAGED:
            continue
        if name not in DEFAULT_SOCKETS:
            raise UsageError(
                f"invalid argument '--runtime / -r': runtime {name!a} is not supported",
                remedy=f"give some of {', '.join((*DEFAULT_SOCKETS, UNMANAGED))}",
            )
        path = _socket_path(name, sockets.get(name, ""))
        if name == "docker" and protocol == "cri":
            path = CRI_DOCKER_SOCKET
        explicit = not everything or path not in (DEFAULT_SOCKETS[name], CRI_DOCKER_SOCKET)
        configs.append(EngineConfig(name, view.path(path), explicit, protocol or "internal"))
    for config in configs:
        if config.explicit and (why := why_missing(config.socket_path)):
            raise ContainerError(
                f"runtime {config.name}: {config.socket_path!a}: {why}",
                remedy=f"start the engine, or correct --{SOCKET_PARAMS[config.name]}",
            )
    return [c for config in configs for c in _completed(config, configs, containerd_namespaces)]


def why_missing(socket_path: str) -> str:
    """Why *socket_path* cannot be connected to; "" when there is something."""
    try:
        os.stat(socket_path)  # noqa: PTH116 (Path.exists() raises what it cannot tell)
    except (FileNotFoundError, NotADirectoryError):
        return "no such socket"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def wants_unmanaged(runtimes: str) -> bool:
    """Whether ``--runtimes`` asks for containers that no engine knows: with every engine, or by
    their own name."""
    names = set(runtimes.split(","))
    return names >= set(DEFAULT_SOCKETS) or UNMANAGED in names


def _completed(
    config: EngineConfig, configs: list[EngineConfig], namespaces: str
) -> list[EngineConfig]:
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


def _rootless_podman(config: EngineConfig) -> list[EngineConfig]:
    """The podman of each user has a socket of its own."""
    root = config.socket_path.removesuffix(DEFAULT_SOCKETS["podman"]) or "/"
    found = sorted(str(path) for path in Path(root).glob(ROOTLESS_PODMAN))
    return [replace(config, socket_path=path) for path in found[:MAX_USERS]]


def _socket_path(name: str, given: str) -> str:
    variable = f"INSPEKTOR_GADGET_{name.replace('-', '').upper()}_SOCKETPATH"
    path = given or os.environ.get(variable, "") or DEFAULT_SOCKETS[name]
    return path.removeprefix("unix://")
