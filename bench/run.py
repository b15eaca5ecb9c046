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
import options
from base import NoBase, command, unpack
from loads import LOADS, BenchError, Load
from options import ROOT
from support import mounts
from table import LatencyRow, Row, table
from tracers import Tool, Tracer

GADGET = ROOT / "tests" / "gadgets" / "trace_open"
IMAGE = "ig-py-bench-trace-open"
MODES = ("json", "columns")
IG_STORE = Path("/var/lib/ig")


def prepare(ig_py: str, base: Path | None, ig: str | None, directory: Path) -> list[Tool]:
    """Build the image once and give the same one to every tool. To be called in a mount namespace
    of its own. Raises BenchError, NoBase, OSError."""
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
        if IG_STORE.is_dir():
            # As ig-py, it has a store of this image alone: a long list of images slows its start.
            mounts.mount("tmpfs", IG_STORE)
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


def measure_all(given: argparse.Namespace) -> tuple[list[Row], list[LatencyRow]]:
    """*given*: of the command line. Raises BenchError, NoBase."""
    rows: list[Row] = []
    latencies: list[LatencyRow] = []
    chosen = [load for load in LOADS if not given.load or load.name in given.load]
    with tempfile.TemporaryDirectory(prefix="ig-py-bench-") as name:
        directory = Path(name)
        binary = loads.build(directory)
        tools = prepare(given.ig_py, given.base, given.ig, directory)
        for _ in range(given.runs):
            for mode in MODES:
                for load in chosen:
                    for tool in tools:
                        rows.append(measure(tool, mode, load, binary, directory))
                        print(".", end="", file=sys.stderr, flush=True)
                for tool in tools if not given.load else ():
                    latencies.append(measure_latency(tool, mode, binary, directory))
                    print(".", end="", file=sys.stderr, flush=True)
    return rows, latencies


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add(parser)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--load",
        action="append",
        choices=[load.name for load in LOADS],
        help="only this load, without latencies; can be repeated",
    )
    parser.add_argument("--out", default=str(ROOT / "bench" / "out.json"))
    given = parser.parse_args()
    options.check(given, "bench")
    try:
        with mounts.tracing_mounted():
            rows, latencies = measure_all(given)
    except (BenchError, NoBase, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"bench: {error}")
    print(file=sys.stderr)
    found = {
        "loads": [asdict(row) for row in rows],
        "latency": [asdict(row) for row in latencies],
    }
    Path(given.out).write_text(json.dumps(found, indent=1) + "\n")
    print(table(rows, latencies))
    if given.base:
        print(f"base: {given.base}")
    if not given.ig and not given.base:
        print("Neither BASE=/path/to/ig_py.whl nor IG=/path/to/ig given: no ratios.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
