"""How long ``run`` takes until the gadget's programs are attached.

    .venv/bin/python bench/start.py --runs 10 --ig /path/to/ig

The time from the call until the tool says ``running...`` (with ``-v``), of an image in the store,
and the processor time that its processes took until then, which a busy machine changes less. The
tools start in turn, each once before anything is measured.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

import options
import usage
from base import NoBase
from loads import BenchError
from run import prepare
from support import mounts
from table import lines
from tracers import Tool, Tracer

FLAGS = ("-v",)


@dataclass
class StartRow:
    """Milliseconds of ``runs`` starts; ``cpu_ms`` and ``least_cpu_ms``: of processor time."""

    tool: str
    runs: int
    median_ms: float
    least_ms: float
    most_ms: float
    cpu_ms: float
    least_cpu_ms: float


class Start(NamedTuple):
    """Seconds until the tool runs, and of processor time."""

    seconds: float
    cpu: float


COLUMNS = (
    ("runs", "runs", "{:.0f}"),
    ("median_ms", "median ms", "{:.0f}"),
    ("least_ms", "least ms", "{:.0f}"),
    ("most_ms", "most ms", "{:.0f}"),
    ("cpu_ms", "CPU median ms", "{:.0f}"),
    ("least_cpu_ms", "CPU least ms", "{:.0f}"),
)


def once(tool: Tool, directory: Path, flags: tuple[str, ...] = ()) -> Start:
    """Raises BenchError."""
    tracer = Tracer(tool, "json", directory, (*FLAGS, *flags))
    try:
        seconds = tracer.wait_running()
        cpu = usage.cpu_seconds(tracer.process.pid)
        tracer.stop()
    finally:
        tracer.end()
    return Start(seconds, cpu)


def measure(tools: list[Tool], directory: Path, runs: int) -> Iterator[StartRow]:
    """Raises BenchError."""
    for tool in tools:
        once(tool, directory)
    starts: dict[str, list[Start]] = {tool.name: [] for tool in tools}
    for _ in range(runs):
        for tool in tools:
            starts[tool.name].append(once(tool, directory))
    return (row(name, found) for name, found in starts.items())


def row(tool: str, starts: Iterable[Start]) -> StartRow:
    found = list(starts)
    times = sorted(start.seconds * 1e3 for start in found)
    cpu = sorted(start.cpu * 1e3 for start in found)
    median = statistics.median
    return StartRow(tool, len(found), median(times), times[0], times[-1], median(cpu), cpu[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add(parser)
    parser.add_argument("--runs", type=int, default=10)
    given = parser.parse_args()
    options.check(given, "start")
    try:
        with mounts.tracing_mounted(), tempfile.TemporaryDirectory(prefix="ig-py-bench-") as name:
            tools = prepare(given.ig_py, given.base, given.ig, Path(name))
            rows = list(measure(tools, Path(name), given.runs))
    except (BenchError, NoBase, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"start: {error}")
    print("\n".join(lines(rows, (), COLUMNS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
