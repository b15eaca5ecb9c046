"""Fuzz the Python readers of untrusted input: ``run.py [--seconds N] [TARGET...]``.

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
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from fuzz.cost import Cost, TooCostly, limit_memory, measure  # noqa: E402
from fuzz.targets import TARGETS, Target  # noqa: E402

MAX_CORPUS = 500
MAX_SAMPLE = 2 << 20
COUNTED_SECONDS = 0.05
"""What takes less says nothing of its bytes."""
DEARER = 1.3
"""A sample is kept that costs so many times what the dearest before it cost."""


@dataclass
class Worst:
    """The dearest samples of a target so far."""

    time: Cost = field(default_factory=Cost)
    memory: Cost = field(default_factory=Cost)
    per_byte: Cost = field(default_factory=Cost)

    def learn(self, cost: Cost) -> bool:
        """Take *cost* into account; True when it is clearly more than was known."""
        news = False
        if cost.seconds > self.time.seconds:
            news |= cost.seconds > DEARER * self.time.seconds
            self.time = cost
        if cost.mib > self.memory.mib:
            news |= cost.mib > DEARER * self.memory.mib + 1
            self.memory = cost
        if (
            cost.seconds > COUNTED_SECONDS
            and cost.microseconds_per_byte > self.per_byte.microseconds_per_byte
        ):
            news |= cost.microseconds_per_byte > DEARER * self.per_byte.microseconds_per_byte
            self.per_byte = cost
        return news

    def row(self, name: str) -> str:
        return (
            f"{name:12} {self.time.seconds:7.2f} {self.time.size:9} {self.memory.mib:7.0f} "
            f"{self.memory.size:9} {self.per_byte.microseconds_per_byte:8.1f} "
            f"{self.per_byte.size:9}"
        )


HEADING = (
    f"{'target':12} {'worst s':>7} {'of bytes':>9} {'MiB':>7} {'of bytes':>9} "
    f"{'µs/byte':>8} {'of bytes':>9}"
)


def fuzz(
    target: Target,
    rng: random.Random,
    *,
    seconds: float = 0,
    runs: int = 0,
    worst: Worst | None = None,
) -> str:
    """``N samples, N ends``. A broken promise raises, with the sample as a note."""
    corpus, ends, count = target.seeds(), set[str](), 0
    worst = worst or Worst()
    waiting, dear = list(corpus), list(corpus)
    stop = time.monotonic() + seconds
    while waiting or (count < runs if runs else time.monotonic() < stop):
        # Half of the time on what is dear already: products take several changes.
        chosen = dear[-8:] if rng.random() < 0.5 else corpus
        sample = waiting.pop() if waiting else target.change(rng.choice(chosen), rng)
        if len(sample) > MAX_SAMPLE:
            continue
        count += 1
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
    return f"{count} samples, {len(ends)} different ends"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], default=[])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
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
    print("\n".join(rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
