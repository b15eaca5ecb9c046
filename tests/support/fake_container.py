"""Something like a container: a process with a root, a mount and a network namespace of its own (or
on the host's network), which a pretended Docker engine tells of."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.fake_docker import FakeContainer, FakeDocker, container_id
from support.waiting import deadline, wait_for


class ContainerLike:
    """Runs ``/program wait`` in an overlay of *image*, a directory that has ``/program``.

    A context manager; :meth:`run` runs ``/program`` inside.
    """

    def __init__(
        self, image: Path, directory: Path, number: int, name: str, *, host_network: bool = False
    ) -> None:
        self._directory = directory
        self._image = image
        self.root = directory / "root"
        self.fake = FakeContainer(container_id(number), name)
        self._new = ("-m",) if host_network else ("-m", "-n")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ContainerLike:
        for part in ("upper", "work", "root"):
            (self._directory / part).mkdir(parents=True)
        where = f"lowerdir={self._image},upperdir={self._directory}/upper"
        options = f"{where},workdir={self._directory}/work"
        mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)]
        subprocess.run(mount, check=True)
        argv = ["unshare", *self._new, "chroot", str(self.root), "/program", "wait"]
        self._process = subprocess.Popen(argv)
        executable = Path(f"/proc/{self._process.pid}/comm")
        wait_for(lambda: executable.read_text() == "program\n", "the container runs", 10, 0.01)
        self.fake.pid = self._process.pid
        return self

    def __exit__(self, *_args: object) -> None:
        self.kill()
        subprocess.run(["umount", "-l", str(self.root)], check=True)

    @property
    def pid(self) -> int:
        return self.fake.pid

    def namespace(self, kind: str) -> int:
        return Path(f"/proc/{self.pid}/ns/{kind}").stat().st_ino

    def run(self, *arguments: str) -> None:
        enter = ["nsenter", "-t", str(self.pid), "-m", "-n", "-r", "/program", *arguments]
        subprocess.run(enter, check=True, capture_output=True, timeout=deadline(20))

    def in_network(self, *argv: str) -> None:
        """A command of the host in the container's network namespace."""
        enter = ["nsenter", "-t", str(self.pid), "-n", *argv]
        subprocess.run(enter, check=True, capture_output=True, timeout=deadline(20))

    def begin(self, engine: FakeDocker) -> None:
        """Let the engine tell of it."""
        engine.begin(self.fake)

    def end(self, engine: FakeDocker) -> None:
        self.kill()
        engine.die(self.fake)
        engine.destroy(self.fake)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
