"""Idle containers by the hundred: processes with a mount namespace each, and a pretended Docker
engine that tells of them.

An engine that runs 2,000 real containers would cost this machine more than any tracer. What a
tracer does for each is the same: it hears of it from the engine, reads its process in /proc, keeps
a descriptor of it, and compares each event's mount namespace. A real engine's answer about a
container is longer.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import loads
from loads import BenchError
from support.fake_docker import FakeContainer, FakeDocker, container_id
from support.waiting import wait_for

_SOURCE = Path(__file__).with_name("idle.c")
_END_SECONDS = 60
_LISTED_SECONDS = 120
_CALM_SECONDS = 1.0


@dataclass(frozen=True)
class Idle:
    """*pids* of the containers' processes; *flags* make a tracer ask the engine."""

    engine: FakeDocker
    pids: tuple[int, ...]

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--runtimes=docker", f"--docker-socketpath={self.engine.path}")

    def wait_listed(self) -> None:
        """Until a tracer has asked for each container and asks no more. Raises BenchError."""
        try:
            wait_for(self._all_asked, "each container is asked for", _LISTED_SECONDS)
        except TimeoutError as error:
            raise BenchError(str(error)) from error
        asked = -1
        while asked != (asked := len(self.engine.requests)):
            time.sleep(_CALM_SECONDS)

    def _all_asked(self) -> bool:
        asked = {path.split("/")[2] for path in self.engine.requests if path.count("/") == 3}
        return all(identity in asked for identity in self.engine.containers)


def build(directory: Path) -> str:
    """The path of the program. Raises BenchError."""
    return loads.compiled(_SOURCE, directory)


def name(number: int) -> str:
    return f"idle-{number}"


@contextlib.contextmanager
def processes(binary: str, count: int) -> Iterator[tuple[int, ...]]:
    """Their process ids; they are gone after the block. Raises BenchError."""
    with subprocess.Popen([binary, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        assert p.stdin is not None and p.stdout is not None
        pids = tuple(int(line) for line in iter(p.stdout.readline, b"\n") if line)
        if len(pids) != count:
            raise BenchError(f"{count} idle processes were asked for, {len(pids)} started")
        try:
            yield pids
        finally:
            p.stdin.close()
            p.wait(_END_SECONDS)


@contextlib.contextmanager
def containers(binary: str, count: int, directory: Path) -> Iterator[Idle]:
    """*directory* has a short path, for the engine's socket. Raises BenchError."""
    with processes(binary, count) as pids:
        engine = FakeDocker(directory / "docker.sock")
        for number, pid in enumerate(pids):
            engine.add(FakeContainer(container_id(number + 1), name(number), pid, network="host"))
        engine.start()
        try:
            yield Idle(engine, pids)
        finally:
            engine.stop()


def inside(binary: str, pid: int, directory: Path) -> str:
    """A program that is *binary*, run in the mount namespace of *pid*."""
    script = directory / f"inside-{pid}"
    script.write_text(f'#!/bin/sh\nexec nsenter --mount=/proc/{pid}/ns/mnt {binary} "$@"\n')
    script.chmod(0o755)
    return str(script)
