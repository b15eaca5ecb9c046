"""Which container engines are asked, and at which sockets."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ig_py.containers.speakers import is_trusted, is_user_id
from ig_py.errors import ContainerError, UsageError
from ig_py.host.descriptors import USED_UP
from ig_py.host.files import HostReadError, require_absent
from ig_py.host.openat2 import Resolve, open_path
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
USERS = "run/user"
"""Where each user has a directory, called by the user's id (XDG_RUNTIME_DIR)."""
ROOTLESS_PODMAN = "podman/podman.sock"
"""In such a directory."""
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
    ``user``: the user id of the user whose engine it is; None for root's.
    """

    name: str
    socket_path: str
    explicit: bool = False
    protocol: str = "internal"
    namespaces: tuple[str, ...] = ()
    others_namespaces: tuple[str, ...] = ()
    user: int | None = None


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
        ContainerError: An engine that the user named has no socket, or the directories of users
            cannot be read.
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
    """The podman of each user has a socket of its own, in a directory called by the user's id."""
    root = config.socket_path.removesuffix(DEFAULT_SOCKETS["podman"]) or "/"
    users = Path(root) / USERS
    found = []
    for name in sorted(_names(users)):
        if is_user_id(name) and _has_socket(users / name, int(name)):
            user = None if is_trusted(int(name)) else int(name)
            path = str(users / name / ROOTLESS_PODMAN)
            found.append(replace(config, socket_path=path, user=user))
    return found[:MAX_USERS]


def _names(directory: Path) -> list[str]:
    try:
        return [entry.name for entry in directory.iterdir()]
    except OSError as error:
        require_absent(str(directory), error, denied=True)
        return []


def _has_socket(directory: Path, user: int) -> bool:
    """Whether *user* listens there. What a user has mounted is not asked."""
    try:
        root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        _require_known(directory, error)
        return False
    try:
        resolve = Resolve.BENEATH | Resolve.NO_MAGICLINKS | Resolve.NO_SYMLINKS | Resolve.NO_XDEV
        fd = open_path(root, ROOTLESS_PODMAN, resolve)
    except OSError as error:
        _require_known(directory, error)
        return False
    finally:
        os.close(root)
    facts = os.fstat(fd)
    os.close(fd)
    return stat.S_ISSOCK(facts.st_mode) and facts.st_uid == user


def _require_known(directory: Path, error: OSError) -> None:
    """Of a user's directory: any other error is the user's own affair."""
    if error.errno in (*USED_UP, errno.ENOMEM):
        raise HostReadError(str(directory), error) from error


def default_socket(name: str) -> str:
    """Where the engine *name* is asked when nothing else says so: its variable of the environment,
    else the usual place."""
    variable = f"INSPEKTOR_GADGET_{name.replace('-', '').upper()}_SOCKETPATH"
    return os.environ.get(variable, "") or DEFAULT_SOCKETS[name]


def _socket_path(name: str, given: str) -> str:
    return (given or default_socket(name)).removeprefix("unix://")
