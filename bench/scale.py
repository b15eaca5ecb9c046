"""What a tracer costs by the number of containers, of gadgets and of fields.

    .venv/bin/python bench/scale.py
    .venv/bin/python bench/scale.py --only gadgets --ig /path/to/ig

Each row: processor time at rest, then that of an event at a set rate; memory afterwards.

- containers: idle ones that a pretended Docker engine tells of (bench/idle.py); the load runs in
  one of them, and its events should have its name: a tool whose events have none (``named`` is 0)
  keeps no containers, and its row tells nothing of their cost.
- gadgets: so many runs of the same gadget at once. A process runs one gadget, so these are as
  many processes, and each prints each event; times and memory are their sums.
- fields: columns, with so many fields shown.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

import idle
import loads
import options
import start
from base import NoBase
from loads import BenchError, Load
from run import prepare
from support import mounts
from table import lines
from tracers import Tool, Tracer
from usage import Memory, Usage

CONTAINERS = (0, 100, 1000, 2000)
GADGETS = (1, 5, 20)
FIELDS = ("fname", "proc.comm", "proc.pid", "fd", "mode")
FEW_FIELDS = (1, 5)
REST_SECONDS = 5.0
RATE = 5_000
LOAD_SECONDS = 5
_VERBOSE = ("-v",)


@dataclass
class ScaleRow:
    """``number`` of what is counted (``of``). Times are of all processes together; ``running_s``:
    until the last one says that it runs; ``named``: events with the container's name. None: the
    row has no such figure, or the tool does not tell."""

    tool: str
    of: str
    number: int
    running_s: float
    rest_ms_per_s: float
    wakeups_per_s: float
    cpu_us_per_event: float | None
    produced: int
    emitted: int
    lost: int | None
    named: int | None
    rss_kib: int
    anonymous_kib: int
    proportional_kib: int


COLUMNS = (
    ("running_s", "running s", "{:.2f}"),
    ("rest_ms_per_s", "rest ms/s", "{:.2f}"),
    ("wakeups_per_s", "wake-ups/s", "{:.1f}"),
    ("cpu_us_per_event", "CPU µs/event", "{:.2f}"),
    ("emitted", "emitted", "{:.0f}"),
    ("lost", "lost", "{:.0f}"),
    ("named", "named", "{:.0f}"),
    ("rss_kib", "RSS KiB", "{:.0f}"),
    ("anonymous_kib", "RssAnon KiB", "{:.0f}"),
    ("proportional_kib", "PSS KiB", "{:.0f}"),
)


@dataclass(frozen=True)
class Case:
    """What one row runs: *load* is the program that makes the load, *name* what its events must
    have, *settled* returns once the tracers have learnt what there is."""

    of: str
    number: int
    load: str
    mode: str = "json"
    gadgets: int = 1
    flags: tuple[str, ...] = ()
    name: str | None = None
    settled: Callable[[], None] = lambda: None


def measure(tool: Tool, case: Case, directory: Path) -> ScaleRow:
    """Raises BenchError."""
    with contextlib.ExitStack() as stack:
        tracers = [
            stack.enter_context(_started(tool, case, directory / f"{tool.name}-{number}"))
            for number in range(case.gadgets)
        ]
        running = max(tracer.wait_running() for tracer in tracers)
        case.settled()
        for tracer in tracers:
            tracer.wait_attached(case.load)
        before = _usage(tracers)
        time.sleep(REST_SECONDS)
        rested = _usage(tracers)
        made = loads.make(case.load, Load("scale", RATE * LOAD_SECONDS, RATE))
        for tracer in tracers:
            tracer.wait_quiet()
        after = _usage(tracers)
        memory = sum((tracer.memory() for tracer in tracers), Memory(0, 0, 0))
        for tracer in tracers:
            tracer.stop()
        lost = [tracer.lost() for tracer in tracers]
        emitted = sum(tracer.emitted() for tracer in tracers)
        named = None if case.name is None else sum(t.emitted(case.name) for t in tracers)
    return ScaleRow(
        tool=tool.name,
        of=case.of,
        number=case.number,
        running_s=running,
        rest_ms_per_s=rested.cpu_since(before) / REST_SECONDS * 1e3,
        wakeups_per_s=rested.switches_since(before) / REST_SECONDS,
        cpu_us_per_event=after.cpu_since(rested) / emitted * 1e6 if emitted else None,
        produced=made.opens * case.gadgets,
        emitted=emitted,
        lost=None if None in lost else sum(number or 0 for number in lost),
        named=named,
        rss_kib=memory.rss,
        anonymous_kib=memory.anonymous,
        proportional_kib=memory.proportional,
    )


@contextlib.contextmanager
def _started(tool: Tool, case: Case, directory: Path) -> Iterator[Tracer]:
    directory.mkdir(exist_ok=True)
    tracer = Tracer(tool, case.mode, directory, (*_VERBOSE, *case.flags))
    try:
        yield tracer
    finally:
        tracer.end()


def _usage(tracers: list[Tracer]) -> Usage:
    total = Usage({}, {}, 0)
    for tracer in tracers:
        total += tracer.usage()
    return total


@contextlib.contextmanager
def by_containers(number: int, load: str, directory: Path) -> Iterator[Case]:
    """Raises BenchError."""
    directory = directory / str(number)
    directory.mkdir(parents=True, exist_ok=True)
    with idle.containers(idle.build(directory), number, directory) as found:
        if number:
            load = idle.inside(load, found.pids[number // 2], directory)
        yield Case(
            "containers",
            number,
            load,
            flags=found.flags,
            name=idle.name(number // 2) if number else None,
            settled=found.wait_listed,
        )


def full_names(event: dict[str, Any], prefix: str = "") -> list[str]:
    """Of the fields in an event of JSON: those of objects with the object's name before them."""
    found: list[str] = []
    for name, value in event.items():
        inner = isinstance(value, dict)
        found += full_names(value, f"{prefix}{name}.") if inner else [prefix + name]
    return found


def all_fields(tool: Tool, load: str, directory: Path) -> list[str]:
    """Raises BenchError."""
    tracer = Tracer(tool, "json", directory)
    try:
        tracer.wait_attached(load)
        tracer.stop()
    finally:
        tracer.end()
    events = tracer.out.read_text().splitlines()
    return full_names(json.loads(next(line for line in events if loads.WARM_FILE in line)))


def by_fields(names: list[str], load: str) -> Case:
    return Case("fields", len(names), load, mode="columns", flags=(f"--fields={','.join(names)}",))


def measure_all(given: argparse.Namespace) -> Iterator[ScaleRow]:
    """*given*: of the command line. Raises BenchError, NoBase."""
    with tempfile.TemporaryDirectory(prefix="ig-py-bench-") as name:
        directory = Path(name)
        load = loads.build(directory)
        tools = prepare(given.ig_py, given.base, given.ig, directory)
        for tool in tools:
            # The first start of a tool is slower: it fills the page cache, ig-py's its bytecode.
            start.once(tool, directory)
        if "containers" in given.only:
            for number in given.containers:
                for tool in tools:
                    # An engine of each tool's own: what was asked of it tells that it has asked.
                    with by_containers(number, load, directory / tool.name) as case:
                        yield measure(tool, case, directory)
        if "gadgets" in given.only:
            for number in given.gadgets:
                for tool in tools:
                    yield measure(tool, Case("gadgets", number, load, gadgets=number), directory)
        if "fields" in given.only:
            for tool in tools:
                known = all_fields(tool, load, directory)
                for names in (*(list(FIELDS[:few]) for few in FEW_FIELDS), known):
                    yield measure(tool, by_fields(names, load), directory)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add(parser)
    kinds = ("containers", "gadgets", "fields")
    parser.add_argument("--only", action="append", choices=kinds, help="can be repeated")
    parser.add_argument("--containers", type=int, nargs="+", default=CONTAINERS)
    parser.add_argument("--gadgets", type=int, nargs="+", default=GADGETS)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where to write the rows as JSON")
    given = parser.parse_args()
    given.only = given.only or kinds
    options.check(given, "scale")
    rows: list[ScaleRow] = []
    failure: str | None = None
    try:
        with mounts.tracing_mounted():
            for _ in range(given.runs):
                for row in measure_all(given):
                    rows.append(row)
                    print(".", end="", file=sys.stderr, flush=True)
    except (BenchError, NoBase, OSError, subprocess.SubprocessError) as error:
        failure = f"scale: {error}"
    except KeyboardInterrupt:
        failure = "scale: interrupted"
    print(file=sys.stderr)
    if given.out:
        given.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print("\n".join(lines(rows, ("of", "number"), COLUMNS)))
    # What was measured before a failure is shown too.
    if failure:
        sys.exit(failure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
