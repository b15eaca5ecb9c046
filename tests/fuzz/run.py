"""Fuzz the Python readers of untrusted input: ``run.py [--seconds N] [TARGET...]``.

:mod:`fuzz.campaign` runs several at a time, and the core's targets too.

A sample that comes to a new end, or costs more than those before it, is kept and changed
further. One that breaks a target's promise, or costs too much (:mod:`fuzz.cost`), is written
to ``--found`` and its traceback shown; exit code 1 then. At the end: each target's worst costs.
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

from fuzz.cost import TooCostly, limit_memory, measure  # noqa: E402
from fuzz.mutate import MAX_SAMPLE  # noqa: E402
from fuzz.targets import TARGETS, Target  # noqa: E402
from fuzz.worst import HEADING, Worst  # noqa: E402

MAX_CORPUS = 500


def fuzz(
    target: Target,
    rng: random.Random,
    *,
    seconds: float = 0,
    runs: int = 0,
    worst: Worst | None = None,
) -> str:
    """``N samples, N ends``. A broken promise raises, with the sample as a note."""
    corpus, ends = target.seeds(), set[str]()
    worst = worst or Worst()
    waiting, dear = list(corpus), list(corpus)
    stop = time.monotonic() + seconds
    while waiting or (worst.samples < runs if runs else time.monotonic() < stop):
        # Half of the time on what is dear already: products take several changes.
        chosen = dear[-8:] if rng.random() < 0.5 else corpus
        sample = waiting.pop() if waiting else target.change(rng.choice(chosen), rng)
        if len(sample) > MAX_SAMPLE:
            continue
        try:
            end, cost = measure(target.run, sample)
            if cost.too_much():
                # A busy machine makes time expensive: what is dear is dear again.
                _, again = measure(target.run, sample)
                cost = min(cost, again, key=lambda c: c.seconds)
            dearer = worst.learn(cost)
            if why := cost.too_much():
                raise TooCostly(why)
        except Exception as err:
            err.sample = sample  # type: ignore[attr-defined]
            raise
        if dearer:
            dear.append(sample)
        if end not in ends and len(corpus) < MAX_CORPUS:
            ends.add(end)
            corpus.append(sample)
    return f"{worst.samples} samples, {len(ends)} different ends"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], default=[])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--costs", type=Path, help="where the costs of the (last) target go")
    given = parser.parse_args()
    limit_memory()
    failed = False
    rows = [HEADING]
    for name in given.targets or TARGETS:
        worst = Worst()
        try:
            said = fuzz(
                TARGETS[name], random.Random(given.seed), seconds=given.seconds, worst=worst
            )
        except Exception as err:
            failed = True
            traceback.print_exc()
            sample = getattr(err, "sample", b"")
            given.found.mkdir(parents=True, exist_ok=True)
            path = given.found / f"{name}-{hashlib.sha256(sample).hexdigest()[:16]}"
            path.write_bytes(sample)
            said = f"FAILED: {path}"
        print(f"{name}: {said} (seed {given.seed})", flush=True)
        rows.append(worst.row(name))
        if given.costs:
            worst.write(given.costs)
    print("\n".join(rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
