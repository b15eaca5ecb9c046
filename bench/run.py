"""Side by side: what tracing costs, what is lost, how long starting takes.

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
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

from base import NoBase, command, unpack
from support import mounts
from tracers import BenchError, Tool, Tracer, run_load

ROOT = Path(__file__).resolve().parent.parent
GADGET = ROOT / "tests" / "gadgets" / "trace_open"
IMAGE = "ig-py-bench-trace-open"


@dataclass(frozen=True)
class Load:
    """*count* opens at *rate* a second; 0: flat out."""

    name: str
    count: int
    rate: int


LOADS = (Load("open-flat", 300_000, 0), Load("open-20k", 60_000, 20_000))
MODES = ("json", "columns")


@dataclass
class Row:
    """One run; times in seconds, ``slowdown`` the load's time over its time untraced."""

    tool: str
    mode: str
    load: str
    produced: int
    emitted: int
    lost: int | None
    unaccounted: int | None
    cpu_us_per_event: float
    rss_kib: int
    attach_s: float
    slowdown: float


def build_load(directory: Path) -> str:
    cc = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not cc:
        raise BenchError("building the load: no C compiler (cc, gcc, clang) is installed")
    binary = str(directory / "load")
    source = ROOT / "bench" / "load.c"
    _do([cc, "-O2", "-static", "-pthread", "-o", binary, str(source)])
    return binary


def _do(argv: list[str], environment: dict[str, str] | None = None) -> None:
    """Run *argv*. Raises BenchError with the end of what it said."""
    try:
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise BenchError(f"{argv[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise BenchError(f"{' '.join(argv[:3])} failed with {done.returncode}: {said}")


def prepare(ig_py: str, base: Path | None, ig: str | None, directory: Path) -> list[Tool]:
    """Build the image once and give the same one to every tool."""
    archive = str(directory / "trace_open.tar")
    store = {**os.environ, "IG_PY_STORE": str(directory / "store")}
    for args in (["build", str(GADGET), "-t", IMAGE], ["export", IMAGE, archive]):
        _do([ig_py, "image", *args], store)
    tools = [Tool("ig-py", (ig_py, "run"), archive)]
    if base:
        environment = unpack(base, directory / "base")
        called = command(directory / "base")
        tools.append(Tool("base", (*called, "run"), archive, environment))
    if ig:
        _do([ig, "image", "import", archive])
        tools.append(Tool("ig", (ig, "run"), IMAGE))
    return tools


def measure(tool: Tool, mode: str, load: Load, binary: str, directory: Path) -> Row:
    untraced = run_load(binary, load.count, load.rate)["seconds"]
    tracer = Tracer(tool, mode, directory)
    try:
        attach = tracer.wait_attached(binary)
        before = tracer.usage()
        traced = run_load(binary, load.count, load.rate)
        tracer.wait_quiet()
        after = tracer.usage()
        tracer.stop()
    finally:
        if tracer.process.poll() is None:
            tracer.process.kill()
            tracer.process.wait()
    produced, emitted, lost = int(traced["produced"]), tracer.emitted(), tracer.lost()
    return Row(
        tool=tool.name,
        mode=mode,
        load=load.name,
        produced=produced,
        emitted=emitted,
        lost=lost,
        unaccounted=None if lost is None else produced - emitted - lost,
        cpu_us_per_event=(after.cpu - before.cpu) / max(emitted, 1) * 1e6,
        rss_kib=after.rss_kib,
        attach_s=attach,
        slowdown=traced["seconds"] / untraced,
    )


def _median(rows: list[Row], key: str) -> float:
    values = [getattr(row, key) for row in rows]
    return statistics.median(values) if None not in values else float("nan")


COLUMNS = (
    ("emitted", "emitted", "{:.0f}"),
    ("lost", "lost", "{:.0f}"),
    ("unaccounted", "unacc.", "{:.0f}"),
    ("cpu_us_per_event", "CPU µs/event", "{:.2f}"),
    ("rss_kib", "RSS KiB", "{:.0f}"),
    ("attach_s", "attached s", "{:.2f}"),
    ("slowdown", "slowdown", "{:.2f}"),
)
RATIOS = ("cpu_us_per_event", "rss_kib", "attach_s", "slowdown")
"""Columns whose ratios are shown; the other columns are counts, which should be equal."""
TOOLS = ("ig-py", "base", "ig")


def table(rows: list[Row]) -> str:
    """Medians by mode, load and tool, and ig-py's in proportion to those of each other tool."""
    lines = [f"{'mode':8} {'load':10} {'tool':6}" + "".join(f"{h:>14}" for _, h, _ in COLUMNS)]
    for mode, load in dict.fromkeys((r.mode, r.load) for r in rows):
        medians: dict[str, dict[str, float]] = {}
        for tool in TOOLS:
            group = [r for r in rows if (r.tool, r.mode, r.load) == (tool, mode, load)]
            if not group:
                continue
            medians[tool] = {key: _median(group, key) for key, _, _ in COLUMNS}
            cells = "".join(f"{fmt.format(medians[tool][key]):>14}" for key, _, fmt in COLUMNS)
            lines.append(f"{mode:8} {load:10} {tool:6}{cells}")
        for other in [tool for tool in TOOLS[1:] if tool in medians]:
            cells = ""
            for key, _, _ in COLUMNS:
                here, there = medians["ig-py"][key], medians[other][key]
                ratio = f"{here / there:.2f}" if there and key in RATIOS else ""
                cells += f"{ratio:>14}"
            lines.append(f"{'':8} {'':10} {'/' + other:6}{cells}")
    return "\n".join(lines)


def measure_all(options: argparse.Namespace) -> list[Row]:
    """*options*: of the command line. Raises BenchError, NoBase."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="ig-py-bench-") as name:
        directory = Path(name)
        binary = build_load(directory)
        tools = prepare(options.ig_py, options.base, options.ig, directory)
        for _ in range(options.runs):
            for mode in MODES:
                for load in LOADS:
                    for tool in tools:
                        rows.append(measure(tool, mode, load, binary, directory))
                        print(".", end="", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ig-py", default=str(ROOT / ".venv" / "bin" / "ig-py"))
    parser.add_argument("--base", type=Path, help="a wheel of ig-py to compare with")
    parser.add_argument("--ig", default=os.environ.get("IG") or None)
    parser.add_argument("--runs", type=int, default=3)
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
            rows = measure_all(options)
    except (BenchError, NoBase, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"bench: {error}")
    print(file=sys.stderr)
    Path(options.out).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(table(rows))
    if options.base:
        print(f"base: {options.base}")
    if not options.ig and not options.base:
        print("Neither BASE=/path/to/ig_py.whl nor IG=/path/to/ig given: no ratios.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
