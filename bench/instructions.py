"""How many instructions of the processor an event costs: callgrind counts them exactly.

    .venv/bin/python bench/instructions.py            compares with bench/instructions.json
    .venv/bin/python bench/instructions.py --renew    writes that file

Two runs of one loop are counted, one of which goes round more often: the difference is that of
the events alone. Times of a shared machine vary by a factor, these counts by a thousandth.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLAN = ROOT / "core" / "benches" / "trace_open.json"
KEPT = Path(__file__).with_suffix(".json")
MODES = ("none", "json", "columns")
SLACK = 1.1
"""An event may cost so many times the instructions that are kept."""
_LOOP = Path(__file__).with_name("instructions_loop.py")
_FEW, _MORE = 2, 8
_SAMPLES = 500
_SECONDS = 120
_COLLECTED = re.compile(r"Collected : (\d+)")


class NotCounted(Exception):
    """The message says why."""


def available() -> bool:
    return shutil.which("valgrind") is not None


def _count(mode: str, rounds: int) -> int:
    argv = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-P"]
    argv += [str(_LOOP), str(PLAN), mode, str(_SAMPLES), str(rounds)]
    # Python's own work is the same in both runs only if its hashes are.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=_SECONDS, env=environment, check=False
    )
    found = _COLLECTED.search(done.stderr)
    if done.returncode or found is None:
        raise NotCounted(f"{' '.join(argv)}: {done.stderr.strip()[-500:]}")
    return int(found[1])


def of_an_event(mode: str) -> int:
    """Instructions that an event costs from the sample to its text. Raises NotCounted."""
    return round((_count(mode, _MORE) - _count(mode, _FEW)) / ((_MORE - _FEW) * _SAMPLES))


def slower(counts: dict[str, int], kept: dict[str, int]) -> dict[str, float]:
    """The modes that cost more than SLACK times what is kept, and how many times that."""
    ratios = {mode: count / kept[mode] for mode, count in counts.items()}
    return {mode: ratio for mode, ratio in ratios.items() if ratio > SLACK}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--renew", action="store_true", help="keep the counts of this build")
    given = parser.parse_args()
    if not available():
        sys.exit("instructions: valgrind is not installed")
    try:
        counts = {mode: of_an_event(mode) for mode in MODES}
    except (NotCounted, subprocess.TimeoutExpired) as error:
        sys.exit(f"instructions: {error}")
    if given.renew:
        KEPT.write_text(json.dumps(counts, indent=1) + "\n")
    kept = json.loads(KEPT.read_text())
    for mode, count in counts.items():
        print(f"{mode:8} {count:6} instructions an event, kept {kept[mode]}")
    return 1 if slower(counts, kept) else 0


if __name__ == "__main__":
    sys.exit(main())
