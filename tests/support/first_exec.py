"""A tracer and many short containers: was the first execution of each reported, with its name?"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from support import tracer
from support.processes import end
from support.running_gadget import SEPARATOR
from support.short_containers import COMMAND, RUNTIMES
from support.waiting import deadline, wait_for

SETTLE_SECONDS = 10
"""How long the events of the last containers may take."""
PROGRAMS = 4
"""How many programs of the root gadget attach on every kernel."""


@dataclass
class Result:
    """Names of containers by what became of their first execution; *status*: the tracer's."""

    names: list[str]
    right: list[str] = field(default_factory=list)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    """Name → under which names its execution was printed."""
    missed: list[str] = field(default_factory=list)
    other: list[tuple[str, str]] = field(default_factory=list)
    """Other events: the command line, and the container's name in the event."""
    starts_a_second: float = 0
    status: int = 0
    messages: str = ""


def trace(
    tool: str,
    image: str,
    runtime: str,
    count: int,
    parallel: int,
    directory: Path,
    more: tuple[str, ...] = (),
) -> Result:
    """Run *tool* on *image* while *count* containers of *runtime* come, *parallel* at a time.

    Raises StartError, TimeoutError, CalledProcessError when the tracer or the runtime fail.
    """
    result = Result([f"first-{os.getpid()}-{number}" for number in range(count)])
    with RUNTIMES[runtime](directory / "r") as starter:
        argv = [tool, "run", image, "--verify-image=false", "-o", "json", *starter.flags, *more]
        with Tracer(argv, directory) as run:
            result.starts_a_second = count / _start_all(starter.start, result.names, parallel)
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: len(run.seen()) >= count, "all events", SETTLE_SECONDS)
            result.status = run.stop()
    result.messages = run.messages
    _judge(result, run.seen())
    return result


class Tracer:
    """A tool that runs our gadget, as a process of its own that is attached when the block is
    entered; what it prints stays below *directory*."""

    def __init__(self, argv: list[str], directory: Path) -> None:
        self._argv = argv
        self._out, self._err = directory / "events", directory / "messages"

    def __enter__(self) -> Self:
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        try:
            wait_for(self._attached, "the tracer is attached", 60)
        except BaseException:
            end(self.process)
            raise
        # After attaching, the tracer still lists the running containers.
        time.sleep(deadline(1) / 2)
        return self

    def __exit__(self, *_args: object) -> None:
        end(self.process)

    def _attached(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the tracer ended with {self.process.returncode}: {self.messages}")
        return tracer.links(self.process.pid) >= PROGRAMS

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(deadline(60))

    @property
    def messages(self) -> str:
        return self._err.read_text()

    def seen(self) -> list[tuple[str, str]]:
        """Command line and container name of each event."""
        found = []
        for line in self._out.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                event = json.loads(line)
                words = event["args"].replace(SEPARATOR, " ")
                found.append((words, event["runtime"]["containerName"]))
        return found


def _start_all(start: Callable[[str], None], names: list[str], parallel: int) -> float:
    """Seconds that it took."""
    begun = time.monotonic()
    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(start, names))
    return time.monotonic() - begun


def _judge(result: Result, events: list[tuple[str, str]]) -> None:
    found: dict[str, list[str]] = {}
    for words, name in events:
        command, _, argument = words.partition(" ")
        if command == COMMAND and argument in result.names:
            found.setdefault(argument, []).append(name)
        else:
            result.other.append((words, name))
    for name in result.names:
        said = found.get(name)
        if said is None:
            result.missed.append(name)
        elif said == [name]:
            result.right.append(name)
        else:
            result.wrong[name] = said
