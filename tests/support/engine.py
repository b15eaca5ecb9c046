"""A Docker engine: the one that is there, or one of our own below a directory."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import features
from support.processes import StartError, running
from support.waiting import deadline

if TYPE_CHECKING:
    import docker

_START_SECONDS = 60
_SOCKETS = (Path("/run/docker.sock"), Path("/var/run/docker.sock"))


@dataclass(frozen=True)
class Engine:
    """A reachable engine. *ours*: it was started here and ends with the block."""

    socket: Path
    ours: bool

    def client(self, timeout: float = 120) -> docker.DockerClient:
        """A new client; the caller closes it."""
        import docker

        return docker.DockerClient(base_url=f"unix://{self.socket}", timeout=int(deadline(timeout)))

    @contextlib.contextmanager
    def container(self, image: str, command: list[str], name: str, **options: Any) -> Iterator[str]:
        """A container without a network that runs during the block; its id."""
        with contextlib.closing(self.client()) as client:
            created = client.containers.create(
                image, command, name=name, network_mode="none", **options
            )
            try:
                created.start()
                yield str(created.id)
            finally:
                created.remove(force=True)


def answers(path: Path) -> bool:
    """Does an engine answer on the socket *path*?"""
    import docker

    if not path.is_socket():
        return False
    try:
        client = docker.DockerClient(base_url=f"unix://{path}", timeout=10)
    except docker.errors.DockerException:
        return False
    with contextlib.closing(client):
        try:
            return bool(client.ping())
        except (docker.errors.DockerException, OSError):
            return False


def unmount_below(directory: Path) -> None:
    """A killed engine leaves mounts behind, and they would keep *directory* from going."""
    prefix = f"{directory}/"
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(prefix)), reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, timeout=30)


def find_program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise StartError(f"{name} is not installed")
    return path


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _containerd(directory: Path) -> Iterator[Path]:
    """A containerd below *directory*; yields its socket.

    dockerd would start one itself, but gives it 15 seconds, too few for an emulated guest.
    """
    directory.mkdir(parents=True, exist_ok=True)
    address = directory / "containerd.sock"
    (directory / "config.toml").write_text(
        f"""version = 2
root = "{directory / "root"}"
state = "{directory / "state"}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{address}"
[ttrpc]
address = "{directory / "ttrpc.sock"}"
"""
    )
    argv = [find_program("containerd"), "--config", str(directory / "config.toml")]
    log = directory / "containerd.log"
    with running(argv, log, lambda: _accepts(address), seconds=_START_SECONDS):
        yield address


@contextlib.contextmanager
def own_engine(directory: Path) -> Iterator[Engine]:
    """An engine of our own: its data, state, socket and containerd are all below *directory*.

    It touches no firewall, has no bridge (containers run with ``network_mode="none"``), and
    stops, containers included, at the end of the block. Raises StartError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    address = directory / "docker.sock"
    (directory / "none.json").write_text("{}")
    argv = [
        find_program("dockerd"),
        *("--host", f"unix://{address}"),
        *("--data-root", str(directory / "data"), "--exec-root", str(directory / "exec")),
        *("--pidfile", str(directory / "docker.pid")),
        *("--config-file", str(directory / "none.json")),
        *("--storage-driver=vfs", "--iptables=false", "--ip6tables=false", "--bridge=none"),
    ]
    log = directory / "dockerd.log"
    try:
        with contextlib.ExitStack() as stack:
            containerd = stack.enter_context(_containerd(directory / "containerd"))
            argv += ["--containerd", str(containerd)]
            ready = functools.partial(answers, address)
            stack.enter_context(running(argv, log, ready, seconds=_START_SECONDS))
            engine = Engine(address, ours=True)
            stack.callback(_remove_containers, engine)
            yield engine
    finally:
        unmount_below(directory)


@contextlib.contextmanager
def needed_engine(directory: Path) -> Iterator[Engine]:
    """As :func:`own_engine`; where none starts, the test lacks ``engine``."""
    with contextlib.ExitStack() as stack:
        try:
            engine = stack.enter_context(own_engine(directory))
        except StartError as error:
            features.lack("engine", str(error))
        yield engine


def _remove_containers(engine: Engine) -> None:
    import docker

    with contextlib.closing(engine.client()) as client:
        for container in client.containers.list(all=True, ignore_removed=True):
            with contextlib.suppress(docker.errors.APIError):
                container.remove(force=True)


@contextlib.contextmanager
def any_engine(directory: Path) -> Iterator[Engine]:
    """The engine that answers on Docker's usual socket, else :func:`own_engine`."""
    for path in _SOCKETS:
        if answers(path):
            yield Engine(path, ours=False)
            return
    with own_engine(directory) as engine:
        yield engine
