"""Which tools a benchmark measures: what their command lines have in common."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ig-py", default=str(ROOT / ".venv" / "bin" / "ig-py"))
    parser.add_argument("--base", type=Path, help="a wheel of ig-py to compare with")
    parser.add_argument("--ig", default=os.environ.get("IG") or None)


def check(given: argparse.Namespace, program: str) -> None:
    """Ends the program where it cannot measure."""
    if os.geteuid() != 0:
        sys.exit(f"{program}: tracing needs root")
    if given.runs < 1:
        sys.exit(f"{program}: --runs is at least 1")
    # An installed wheel has its bytecode; in a checkout the first run leaves it behind.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
