"""What a gadget with a wasm module costs that traces programs which begin to run.

    .venv/bin/python bench/wasm.py --image trace_exec.tar --ig /path/to/ig

The image is the caller's: one tagged image whose gadget has the parameter ``uid`` (gadget/filter.h)
and the module, such as Inspektor Gadget's trace_exec. Processor time until the tool runs, and for
each event of programs that begin at a fixed rate. The tools run in turn. Of `ig`, the first run
compiles the module, and the later ones find that in its cache.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

import loads
import options
import usage
from base import NoBase, command, unpack
from loads import BenchError
from run import IG_STORE
from support import mounts
from table import lines
from tracers import Tool, Tracer

FLAGS = ("-v",)
IG_CACHE = Path("/var/run/ig/wasm-cache")
NEEDLE = b'"load"'
"""The name of the program that begins, as a value of the events of the load."""


@dataclass
class WasmRow:
    """One run, the ``first`` or a ``later`` one: ``start_cpu_ms`` of processor time in ``start_ms``
    until the tool runs; then ``produced`` programs began, ``rate`` a second."""

    tool: str
    run: str
    rate: str
    produced: int
    emitted: int
    start_ms: float
    start_cpu_ms: float
    cpu_us_per_event: float | None
    rss_kib: int


COLUMNS = (
    ("produced", "programs", "{:.0f}"),
    ("emitted", "emitted", "{:.0f}"),
    ("start_ms", "start ms", "{:.0f}"),
    ("start_cpu_ms", "start CPU ms", "{:.0f}"),
    ("cpu_us_per_event", "CPU µs/event", "{:.2f}"),
    ("rss_kib", "RSS KiB", "{:.0f}"),
)


def prepare(given: argparse.Namespace, directory: Path) -> list[Tool]:
    """Give the image to every tool. Raises BenchError, NoBase, OSError."""
    store = {**os.environ, "IG_PY_STORE": str(directory / "store")}
    said = loads.run([given.ig_py, "image", "import", given.image], store)
    name = said.split()[-1]
    tools = [Tool("ig-py", (given.ig_py, "run"), name, store)]
    if given.base:
        environment = unpack(given.base, directory / "base")
        environment["IG_PY_STORE"] = store["IG_PY_STORE"]
        tools.append(Tool("base", (*command(directory / "base"), "run"), name, environment))
    if given.ig:
        if IG_STORE.is_dir():
            # A long list of images slows its start.
            mounts.mount("tmpfs", IG_STORE)
        if IG_CACHE.is_dir():
            mounts.mount("tmpfs", IG_CACHE)
        loads.run([given.ig, "image", "import", given.image])
        tools.append(Tool("ig", (given.ig, "run"), name))
    return tools


def measure(tool: Tool, given: argparse.Namespace, binary: str, directory: Path) -> WasmRow:
    """A run, said to be a later one. Raises BenchError."""
    tracer = Tracer(tool, "json", directory, FLAGS)
    try:
        start = tracer.wait_running()
        cpu = usage.cpu_seconds(tracer.process.pid)
        tracer.wait_quiet()
        before = tracer.usage()
        programs(binary, given.count, given.rate)
        tracer.wait_quiet()
        after = tracer.usage()
        tracer.stop()
    finally:
        tracer.end()
    with tracer.out.open("rb") as out:
        emitted = sum(NEEDLE in line for line in out)
    used = after.cpu_since(before)
    each = used / emitted * 1e6 if emitted else None
    return WasmRow(
        tool=tool.name,
        run="later",
        rate=f"{given.rate}/s",
        produced=given.count,
        emitted=emitted,
        start_ms=start * 1e3,
        start_cpu_ms=cpu * 1e3,
        cpu_us_per_event=each,
        rss_kib=after.rss_kib,
    )


def programs(binary: str, count: int, rate: int) -> None:
    """Let *count* programs begin. Raises BenchError."""
    loads.run([binary, "exec", str(count), str(rate), str(loads.UID)])


def measure_all(given: argparse.Namespace) -> Iterator[WasmRow]:
    """*given*: of the command line. Raises BenchError, NoBase, OSError."""
    with tempfile.TemporaryDirectory(prefix="ig-py-bench-") as name:
        directory = Path(name)
        # The load runs its own program as another user.
        directory.chmod(0o711)
        binary = loads.build(directory)
        tools = prepare(given, directory)
        for run in range(given.runs + 1):
            for tool in tools:
                row = measure(tool, given, binary, directory)
                yield row if run else replace(row, run="first")
                print(".", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add(parser)
    parser.add_argument("--image", required=True, help="an image tar, as `image export` makes it")
    parser.add_argument("--runs", type=int, default=3, help="of each tool, after a first one")
    parser.add_argument("--rate", type=int, default=2000, help="programs a second")
    parser.add_argument("--count", type=int, default=20_000)
    given = parser.parse_args()
    options.check(given, "wasm")
    try:
        with mounts.tracing_mounted():
            rows = list(measure_all(given))
    except (BenchError, NoBase, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"wasm: {error}")
    print(file=sys.stderr)
    print("\n".join(lines(rows, ("run", "rate"), COLUMNS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
