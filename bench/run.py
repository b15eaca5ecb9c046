"""Side by side: what tracing costs at each rate, what is lost, how long events and starts take.

``make bench`` runs ig-py alone. With ``BASE=/path/to/ig_py.whl`` (another build, such as the
previous commit's) or ``IG=/path/to/ig`` the tools run in turn with the same image and the same
load, and the table shows ratios of the medians. Absolute times of a noisy machine mean little,
ratios of one run do. The rows are written to ``bench/out.json``.

tracefs, debugfs and bpffs are mounted for the tools in a mount namespace of this run's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

import latency
import loads
from base import NoBase, command, unpack
from loads import LOADS, BenchError, Load
from support import mounts
from table import LatencyRow, Row, table
from tracers import Tool, Tracer

ROOT = Path(__file__).resolve().parent.parent
GADGET = ROOT / "tests" / "gadgets" / "trace_open"
IMAGE = "ig-py-bench-trace-open"
MODES = ("json", "columns")


def prepare(ig_py: str, base: Path | None, ig: str | None, directory: Path) -> list[Tool]:
    """Build the image once and give the same one to every tool."""
    archive = str(directory / "trace_open.tar")
    store = {**os.environ, "IG_PY_STORE": str(directory / "store")}
    for args in (["build", str(GADGET), "-t", IMAGE], ["export", IMAGE, archive]):
        loads.run([ig_py, "image", *args], store)
    tools = [Tool("ig-py", (ig_py, "run"), IMAGE, store)]
    if base:
        environment = unpack(base, directory / "base")
        called = command(directory / "base")
        environment["IG_PY_STORE"] = store["IG_PY_STORE"]
        tools.append(Tool("base", (*called, "run"), IMAGE, environment))
    if ig:
        loads.run([ig, "image", "import", archive])
        tools.append(Tool("ig", (ig, "run"), IMAGE))
    return tools


def measure(tool: Tool, mode: str, load: Load, binary: str, directory: Path) -> Row:
    """Raises BenchError."""
    untraced = loads.make(binary, load).seconds if load.count else None
    tracer = Tracer(tool, mode, directory)
    try:
        attach = tracer.wait_attached(binary)
        before = tracer.usage()
        traced = loads.make(binary, load)
        if load.count:
            tracer.wait_quiet()
        after = tracer.usage()
        tracer.stop()
    finally:
        tracer.end()
    emitted, lost = tracer.emitted(), tracer.lost()
    cpu = after.cpu_since(before)
    return Row(
        tool=tool.name,
        mode=mode,
        load=load.name,
        produced=traced.opens,
        emitted=emitted,
        lost=lost,
        unaccounted=None if lost is None else traced.opens - emitted - lost,
        cpu_ms_per_s=cpu / traced.seconds * 1e3,
        cpu_us_per_event=cpu / emitted * 1e6 if emitted else None,
        wakeups_per_s=after.switches_since(before) / traced.seconds,
        rss_kib=after.rss_kib,
        attach_s=attach,
        slowdown=traced.seconds / untraced if untraced else None,
    )


def measure_latency(tool: Tool, mode: str, binary: str, directory: Path) -> LatencyRow:
    """Raises BenchError."""
    values = latency.milliseconds(tool, mode, binary, directory)
    return LatencyRow(tool.name, mode, len(values), latency.median(values), latency.p99(values))


def measure_all(options: argparse.Namespace) -> tuple[list[Row], list[LatencyRow]]:
    """*options*: of the command line. Raises BenchError, NoBase."""
    rows: list[Row] = []
    latencies: list[LatencyRow] = []
    chosen = [load for load in LOADS if not options.load or load.name in options.load]
    with tempfile.TemporaryDirectory(prefix="ig-py-bench-") as name:
        directory = Path(name)
        binary = loads.build(directory)
        tools = prepare(options.ig_py, options.base, options.ig, directory)
        for _ in range(options.runs):
            for mode in MODES:
                for load in chosen:
                    for tool in tools:
                        rows.append(measure(tool, mode, load, binary, directory))
                        print(".", end="", file=sys.stderr, flush=True)
                for tool in tools if not options.load else ():
                    latencies.append(measure_latency(tool, mode, binary, directory))
                    print(".", end="", file=sys.stderr, flush=True)
    return rows, latencies


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ig-py", default=str(ROOT / ".venv" / "bin" / "ig-py"))
    parser.add_argument("--base", type=Path, help="a wheel of ig-py to compare with")
    parser.add_argument("--ig", default=os.environ.get("IG") or None)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--load",
        action="append",
        choices=[load.name for load in LOADS],
        help="only this load, without latencies; can be repeated",
    )
    parser.add_argument("--out", default=str(ROOT / "bench" / "out.json"))
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: tracing needs root")
    if options.runs < 1:
        sys.exit("bench: --runs is at least 1")
    # An installed wheel has its bytecode; in a checkout the first run leaves it behind.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        with mounts.tracing_mounted():
            rows, latencies = measure_all(options)
    except (BenchError, NoBase, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"bench: {error}")
    print(file=sys.stderr)
    found = {
        "loads": [asdict(row) for row in rows],
        "latency": [asdict(row) for row in latencies],
    }
    Path(options.out).write_text(json.dumps(found, indent=1) + "\n")
    print(table(rows, latencies))
    if options.base:
        print(f"base: {options.base}")
    if not options.ig and not options.base:
        print("Neither BASE=/path/to/ig_py.whl nor IG=/path/to/ig given: no ratios.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
