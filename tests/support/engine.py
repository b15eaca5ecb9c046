"""A Docker engine: the one that is there, or one of our own below a directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.processes import StartError, running

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

        return docker.DockerClient(base_url=f"unix://{self.socket}", timeout=int(timeout))


def answers(socket: Path) -> bool:
    """Does an engine answer on *socket*?"""
    import docker

    if not socket.is_socket():
        return False
    try:
        client = docker.DockerClient(base_url=f"unix://{socket}", timeout=10)
    except docker.errors.DockerException:
        return False
    with contextlib.closing(client):
        try:
            return bool(client.ping())
        except (docker.errors.DockerException, OSError):
            return False


def _unmount_below(directory: Path) -> None:
    """A killed engine leaves mounts behind, and they would keep *directory* from going."""
    prefix = f"{directory}/"
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(prefix)), reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, timeout=30)


@contextlib.contextmanager
def own_engine(directory: Path) -> Iterator[Engine]:
    """An engine of our own: its data, state, socket and containerd are all below *directory*.

    It touches no firewall, has no bridge (containers run with ``network_mode="none"``), and
    stops, containers included, at the end of the block. Raises StartError.
    """
    program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise StartError("dockerd is not installed")
    directory.mkdir(parents=True, exist_ok=True)
    socket = directory / "docker.sock"
    argv = [
        program,
        *("--host", f"unix://{socket}"),
        *("--data-root", str(directory / "data"), "--exec-root", str(directory / "exec")),
        *(
            "--pidfile",
            str(directory / "docker.pid"),
            "--config-file",
            str(directory / "none.json"),
        ),
        *("--storage-driver=vfs", "--iptables=false", "--ip6tables=false", "--bridge=none"),
    ]
    (directory / "none.json").write_text("{}")
    log = directory / "dockerd.log"
    try:
        with running(argv, log, lambda: answers(socket), seconds=_START_SECONDS):
            engine = Engine(socket, ours=True)
            try:
                yield engine
            finally:
                _remove_containers(engine)
    finally:
        _unmount_below(directory)


def _remove_containers(engine: Engine) -> None:
    import docker

    with contextlib.closing(engine.client()) as client:
        for container in client.containers.list(all=True, ignore_removed=True):
            with contextlib.suppress(docker.errors.APIError):
                container.remove(force=True)


@contextlib.contextmanager
def any_engine(directory: Path) -> Iterator[Engine]:
    """The engine that answers on Docker's usual socket, else :func:`own_engine`."""
    for socket in _SOCKETS:
        if answers(socket):
            yield Engine(socket, ours=False)
            return
    with own_engine(directory) as engine:
        yield engine
