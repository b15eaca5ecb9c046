"""Is the first execution of every container seen, and named right?

    .venv/bin/python bench/first_exec.py --count 200
    .venv/bin/python bench/first_exec.py --runtime docker --tool /path/to/ig

Starts containers that run one short command, as fast as they start, under a tracer, and prints
one row for each runtime: ``wrong`` are executions under another container's name, under none, or
told twice. Needs root; engines are ones of our own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.first_exec import Result, trace  # noqa: E402
from support.root_gadget import image_tar  # noqa: E402
from support.short_containers import RUNTIMES, why_not  # noqa: E402


def imported(tool: str, tar: str) -> str:
    """For ig, which runs no archives."""
    done = subprocess.run(
        [tool, "image", "import", tar], check=True, capture_output=True, text=True
    )
    return done.stdout.split()[-1].partition("@")[0]


def row(result: Result) -> str:
    cells = {
        "containers": len(result.names),
        "named right": len(result.right),
        "missed": len(result.missed),
        "wrong": len(result.wrong),
        "other events": len(result.other),
        "starts/s": f"{result.starts_a_second:.1f}",
        "exit status": result.status,
    }
    return ", ".join(f"{key} {value}" for key, value in cells.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", default=str(Path(sys.executable).with_name("ig-py")))
    parser.add_argument("--runtime", action="append", choices=list(RUNTIMES), default=[])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--flag", action="append", default=[], help="for the tracer")
    given = parser.parse_args()
    is_ig = Path(given.tool).name == "ig"
    with tempfile.TemporaryDirectory(prefix="ig") as images:
        image = str(image_tar(Path(images)))
        if is_ig:
            image = imported(given.tool, image)
        for runtime in given.runtime or RUNTIMES:
            if why := why_not(runtime):
                print(f"{runtime}: not here: {why}", flush=True)
                continue
            with tempfile.TemporaryDirectory(prefix="ig") as directory:
                arguments = (given.count, given.parallel, Path(directory), tuple(given.flag))
                result = trace(given.tool, image, runtime, *arguments)
            print(f"{Path(given.tool).name}, {runtime}: {row(result)}", flush=True)
            if result.wrong or result.missed:
                print(f"  wrong: {result.wrong}\n  missed: {result.missed}", flush=True)
            for words, name in result.other[:5]:
                print(f"  other: {name}: {words}", file=sys.stderr)
            if messages := result.messages.strip():
                print("  " + messages.replace("\n", "\n  "), file=sys.stderr)


if __name__ == "__main__":
    main()
