"""How long ``run`` takes until the gadget's programs are attached.

    .venv/bin/python bench/start.py --runs 10 --ig /path/to/ig

The time from the call until the tool says ``running...`` (with ``-v``), of an image in the store.
The tools start in turn, each once before anything is measured.
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

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

import options
from base import NoBase
from loads import BenchError
from run import prepare
from support import mounts
from table import lines
from tracers import Tool, Tracer

FLAGS = ("-v",)


@dataclass
class StartRow:
    """Milliseconds of ``runs`` starts."""

    tool: str
    runs: int
    median_ms: float
    least_ms: float
    most_ms: float


COLUMNS = (
    ("runs", "runs", "{:.0f}"),
    ("median_ms", "median ms", "{:.0f}"),
    ("least_ms", "least ms", "{:.0f}"),
    ("most_ms", "most ms", "{:.0f}"),
)


def once(tool: Tool, directory: Path, flags: tuple[str, ...] = ()) -> float:
    """Seconds until it runs. Raises BenchError."""
    tracer = Tracer(tool, "json", directory, (*FLAGS, *flags))
    try:
        seconds = tracer.wait_running()
        tracer.stop()
    finally:
        tracer.end()
    return seconds


def measure(tools: list[Tool], directory: Path, runs: int) -> Iterator[StartRow]:
    """Raises BenchError."""
    for tool in tools:
        once(tool, directory)
    seconds: dict[str, list[float]] = {tool.name: [] for tool in tools}
    for _ in range(runs):
        for tool in tools:
            seconds[tool.name].append(once(tool, directory))
    return (row(name, values) for name, values in seconds.items())


def row(tool: str, seconds: Iterable[float]) -> StartRow:
    values = sorted(value * 1e3 for value in seconds)
    return StartRow(tool, len(values), statistics.median(values), values[0], values[-1])


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
