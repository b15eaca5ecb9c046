"""podman with its storage and state below a directory, with or without its service."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.engine import find_program
from support.image_archive import NAME, archive
from support.processes import output, running


@dataclass(frozen=True)
class Podman:
    """Root's, or that of a *user* (a number) without ranges of further users: what it makes all
    belongs to them. *flags*: further options of podman's."""

    directory: Path
    user: int = 0
    flags: tuple[str, ...] = ()

    def argv(self, *args: str) -> list[str]:
        return [
            *self._as_user(),
            find_program("podman"),
            *("--root", str(self.directory / "root"), "--runroot", str(self.directory / "run")),
            *("--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file"),
            *("--tmpdir", str(self.directory / "tmp"), "--runtime=runc"),
            *(("--storage-opt", "vfs.ignore_chown_errors=true") if self.user else ()),
            *self.flags,
            *args,
        ]

    def _as_user(self) -> list[str]:
        if not self.user:
            return []
        number = str(self.user)
        home = [f"{name}={self.directory}" for name in ("HOME", "XDG_RUNTIME_DIR")]
        change = ["--reuid", number, "--regid", number, "--clear-groups"]
        return [find_program("setpriv"), *change, "env", "--chdir", str(self.directory), *home]

    def call(self, *args: str, seconds: float = 60) -> str:
        """Output of ``podman``; ProgramError when it fails."""
        return output(self.argv(*args), seconds).strip()

    def load(self) -> None:
        tar = self.directory / "image.tar"
        tar.write_bytes(archive())
        os.chown(self.directory, self.user, self.user)
        self.call("load", "-i", str(tar))

    def run(self, name: str, *command: str, remove: bool = False) -> str:
        """Start a container without a network; its id, or with *remove* its output."""
        kind = "--rm" if remove else "--detach"
        # podman's own defaults are more than may be allowed here.
        limits = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
        return self.call("run", kind, "--network=none", *limits, "--name", name, NAME, *command)

    @contextlib.contextmanager
    def service(self) -> Iterator[Path]:
        """The socket of its service, for the block."""
        path = self.directory / "p.sock"
        argv = self.argv("system", "service", "--time=0", f"unix://{path}")
        with running(argv, self.directory / "log", path.exists):
            yield path

    def remove_all(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            self.call("rm", "--all", "--force", "--time=0")
        # It keeps the user's namespaces, and outlives every command.
        for path in self.directory.rglob("pause.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)
