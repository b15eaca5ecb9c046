"""Fuzz the Python readers of untrusted input: ``run.py [--seconds N] [TARGET...]``.

A sample that comes to a new end is kept and changed further. One that breaks a target's promise
is written to ``--found`` and its traceback shown; exit code 1 then.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from fuzz.targets import TARGETS, Target  # noqa: E402

MAX_CORPUS = 500
MAX_SAMPLE = 1 << 20


def fuzz(target: Target, rng: random.Random, *, seconds: float = 0, runs: int = 0) -> str:
    """``N samples, N ends``. A broken promise raises, with the sample as a note."""
    corpus, ends, count = target.seeds(), set[str](), 0
    waiting = list(corpus)
    stop = time.monotonic() + seconds
    while waiting or (count < runs if runs else time.monotonic() < stop):
        sample = waiting.pop() if waiting else target.change(rng.choice(corpus), rng)
        count += 1
        try:
            end = target.run(sample)
        except Exception as err:
            err.sample = sample  # type: ignore[attr-defined]
            raise
        if end not in ends and len(sample) <= MAX_SAMPLE and len(corpus) < MAX_CORPUS:
            ends.add(end)
            corpus.append(sample)
    return f"{count} samples, {len(ends)} different ends"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], default=[])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    given = parser.parse_args()
    failed = False
    for name in given.targets or TARGETS:
        try:
            said = fuzz(TARGETS[name], random.Random(given.seed), seconds=given.seconds)
        except Exception as err:
            failed = True
            traceback.print_exc()
            sample = getattr(err, "sample", b"")
            given.found.mkdir(parents=True, exist_ok=True)
            path = given.found / f"{name}-{hashlib.sha256(sample).hexdigest()[:16]}"
            path.write_bytes(sample)
            said = f"FAILED: {path}"
        print(f"{name}: {said} (seed {given.seed})", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
