"""A tracer, and many short containers: is the first execution of each seen, and named right?"""

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

from support import tracer
from support.processes import end
from support.short_containers import COMMAND, RUNTIMES
from support.waiting import deadline, wait_for

SEPARATOR = "\N{NO-BREAK SPACE}"
SETTLE_SECONDS = 10
"""How long the last containers' events may take."""
PROGRAMS = 4
"""Of the root gadget: those that attach everywhere."""


@dataclass
class Result:
    """Names of containers by what became of their first execution; *status*: the tracer's."""

    names: list[str]
    right: list[str] = field(default_factory=list)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    """Name → under which names its execution was printed."""
    missed: list[str] = field(default_factory=list)
    other: list[tuple[str, str]] = field(default_factory=list)
    """Events that are none of the containers': what was executed, and the name that was said."""
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
    output, messages = directory / "events", directory / "messages"
    with RUNTIMES[runtime](directory / "r") as starter:
        argv = [tool, "run", image, "--verify-image=false", "-o", "json", *starter.flags, *more]
        with output.open("wb") as out, messages.open("wb") as err:
            run = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            wait_for(lambda: _attached(run, messages), "the tracer is attached", 60)
            result.starts_a_second = count / _start_all(starter.start, result.names, parallel)
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: len(_seen(output)) >= count, "all events", SETTLE_SECONDS)
            run.send_signal(signal.SIGINT)
            result.status = run.wait(deadline(30))
        finally:
            end(run)
    result.messages = messages.read_text()
    _judge(result, _seen(output))
    return result


def _attached(run: subprocess.Popen[bytes], messages: Path) -> bool:
    if run.poll() is not None:
        raise RuntimeError(f"the tracer ended with {run.returncode}: {messages.read_text()}")
    return tracer.links(run.pid) >= PROGRAMS


def _start_all(start: Callable[[str], None], names: list[str], parallel: int) -> float:
    """Seconds that it took."""
    # What is attached may still wait for its first look at what runs already.
    time.sleep(deadline(1) / 2)
    begun = time.monotonic()
    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(start, names))
    return time.monotonic() - begun


def _seen(output: Path) -> list[tuple[str, str]]:
    """What was executed, and the container's name that the tracer says."""
    found = []
    for line in output.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            event = json.loads(line)
            words = event["args"].replace(SEPARATOR, " ")
            found.append((words, event["runtime"]["containerName"]))
    return found


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
