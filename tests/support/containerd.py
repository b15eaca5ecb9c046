"""A containerd of our own below a directory, and its command line client."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import features
from support.engine import find_program, unmount_below
from support.image_archive import NAME, PAUSE, archive
from support.processes import StartError, output, running

_START_SECONDS = 60


@dataclass(frozen=True)
class Containerd:
    """A reachable containerd; its state is below *directory*."""

    directory: Path
    socket: Path

    def ctr(self, *args: str, namespace: str = "default", seconds: float = 60) -> str:
        """Output of ``ctr``; ProgramError when it fails."""
        argv = [find_program("ctr"), "-a", str(self.socket), "-n", namespace, *args]
        return output(argv, seconds)

    def load(self, namespace: str = "default") -> str:
        """Bring the busybox image in; its name."""
        self._import(archive(), namespace)
        return NAME

    def load_pause(self) -> None:
        """Load the image of a pod's first container."""
        self._import(archive(PAUSE, ("/bin/sleep", "1000000")), "k8s.io")

    def _import(self, content: bytes, namespace: str) -> None:
        tar = self.directory / "image.tar"
        tar.write_bytes(content)
        self.ctr("images", "import", "--snapshotter=native", str(tar), namespace=namespace)

    def run(self, name: str, *command: str, namespace: str = "default") -> None:
        """Start a container in the background; it has the network namespace of the host."""
        self.ctr(
            *("run", "-d", "--snapshotter=native", "--null-io", "--net-host"),
            *(NAME, name, *command),
            namespace=namespace,
        )

    def kill(self, name: str, namespace: str = "default") -> None:
        """End the container's init and remove the container."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.ctr("tasks", "rm", "--force", name, namespace=namespace)
        self.ctr("containers", "rm", name, namespace=namespace)


@contextlib.contextmanager
def own_containerd(directory: Path, *, cri: bool = False) -> Iterator[Containerd]:
    """A containerd that stops, containers included, with the block. Raises StartError."""
    directory.mkdir(parents=True, exist_ok=True)
    address = directory / "c.sock"
    disabled = "" if cri else 'disabled_plugins = ["io.containerd.grpc.v1.cri"]'
    (directory / "config.toml").write_text(
        f"""version = 2
root = "{directory / "root"}"
state = "{directory / "state"}"
{disabled}
[grpc]
address = "{address}"
[ttrpc]
address = "{directory / "t.sock"}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{directory / "cni"}"
conf_dir = "{directory / "cni"}"
"""
    )
    argv = [find_program("containerd"), "--config", str(directory / "config.toml")]

    def accepts() -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(address))
            return True
        return False

    try:
        with running(argv, directory / "log", accepts, seconds=_START_SECONDS):
            engine = Containerd(directory, address)
            try:
                yield engine
            finally:
                _remove_everything(engine)
    finally:
        unmount_below(directory)


@contextlib.contextmanager
def needed_containerd(directory: Path, *, cri: bool = False) -> Iterator[Containerd]:
    """As :func:`own_containerd`; where none starts, the test lacks ``containerd``."""
    with contextlib.ExitStack() as stack:
        try:
            engine = stack.enter_context(own_containerd(directory, cri=cri))
        except StartError as error:
            features.lack("containerd", str(error))
        yield engine


def _remove_everything(engine: Containerd) -> None:
    with contextlib.suppress(subprocess.SubprocessError):
        for namespace in engine.ctr("namespaces", "ls", "-q").split():
            for name in engine.ctr("containers", "ls", "-q", namespace=namespace).split():
                with contextlib.suppress(subprocess.SubprocessError):
                    engine.kill(name, namespace)
