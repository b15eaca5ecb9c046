"""What both tools watch: the same commands, in a Docker container or on the host."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support import busybox, start_signal
from support.engine import any_engine
from support.processes import end
from support.waiting import deadline

CONTAINER = "ig-py-parity"
APPLETS = ("sh", "id", "ls", "cat", "echo", "uname", "true", "sleep")
BYE = "bye-bye"


@dataclass(frozen=True)
class Workload:
    """*arguments* select it for both tools; *marker* is in each of its events."""

    arguments: tuple[str, ...]
    marker: str
    directory: Path

    def go(self) -> None:
        start_signal.stop_heartbeat(self.directory)

    def shown(self, lines: Sequence[str]) -> bool:
        """Do the output's *lines* show that the tool is watching?"""
        return any(start_signal.HEARTBEAT in line for line in self._mine(lines))

    def complete(self, lines: Sequence[str]) -> bool:
        return any(BYE in line for line in self._mine(lines))

    def between(self, lines: Sequence[str]) -> list[str]:
        """The workload's own lines after the last heartbeat, up to its last command."""
        mine = self._mine(lines)
        start = max(
            (i + 1 for i, line in enumerate(mine) if start_signal.HEARTBEAT in line), default=0
        )
        end = max((i + 1 for i, line in enumerate(mine) if BYE in line), default=len(mine))
        return mine[start:end]

    def _mine(self, lines: Sequence[str]) -> list[str]:
        return [line for line in lines if self.marker in line]


def _commands(directory: str, go: str) -> str:
    """A few shapes of execution: arguments, none, unusual bytes, a failure, a child of a child.

    Programs are in *directory*, what :func:`_volumes` made is in *go*.
    """
    return "; ".join(
        [
            f"{directory}/id",
            f"{directory}/ls / /nowhere",
            f"{directory}/echo 'two words' 'tab\there' ''",
            f"{directory}/cat /etc/passwd",
            f"{directory}/nothing-here",
            f"{directory}/sh -c '{directory}/uname -a; {directory}/true'",
            f"{go}/{BYE}",
            # Stays, without executing anything: the tools look at living processes.
            f"read word <{go}/pipe",
        ]
    )


def _volumes(directory: Path, programs: str) -> dict[str, dict[str, str]]:
    """Make the pipe and the scripts for begin and end of the workload; a container's volumes."""
    volumes = start_signal.make(directory)
    for name in (start_signal.HEARTBEAT, BYE):
        start_signal.make_script(directory / name, programs)
    return volumes


@contextlib.contextmanager
def in_container(work: Path) -> Iterator[Workload]:
    """A container of the engine that is there, or of one of our own."""
    with any_engine(work / "engine") as engine, contextlib.closing(engine.client()) as client:
        image = busybox.import_image(client, "ig-py-parity:local")
        directory = work / "go"
        try:
            container = client.containers.create(
                image,
                [
                    "/bin/sh",
                    "-c",
                    start_signal.with_heartbeat(_commands("/bin", start_signal.INSIDE)),
                ],
                name=CONTAINER,
                network_mode="none",
                volumes=_volumes(directory, "/bin"),
            )
            try:
                container.start()
                arguments = (
                    *("-c", CONTAINER, "--runtimes=docker"),
                    f"--docker-socketpath={engine.socket}",
                )
                yield Workload(arguments, f'"{CONTAINER}"', directory)
            finally:
                container.remove(force=True)
        finally:
            client.images.remove(image, force=True)


@contextlib.contextmanager
def on_host(work: Path) -> Iterator[Workload]:
    """A shell of the host; its programs are in a directory whose name marks their events."""
    source = shutil.which("busybox")
    if source is None:
        raise busybox.NoBusybox("busybox is not installed: install Debian's busybox-static")
    programs = work / "ig-py-parity-bin"
    programs.mkdir()
    for applet in APPLETS:
        shutil.copy(source, programs / applet)
    directory = work / "go"
    _volumes(directory, str(programs))
    commands = _commands(str(programs), str(directory))
    script = start_signal.with_heartbeat(commands, str(programs), str(directory))
    process = subprocess.Popen(
        [str(programs / "sh"), "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Workload(("--host",), programs.name, directory)
    finally:
        end(process, deadline(1))
