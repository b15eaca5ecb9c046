"""The dearest samples of a target, as a row of the table at the end, and as JSON between processes.

``core/fuzz/src/worst.rs`` writes the same form.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fuzz.cost import Cost

DEARER = 1.3
"""A sample is kept that costs so many times what the dearest before it cost."""
COUNTED_BYTES = 1024
"""Smaller samples say nothing of what a byte costs."""
HEADING = (
    f"{'target':12} {'samples':>11} {'worst s':>8} {'of bytes':>9} {'MiB':>7} {'of bytes':>9} "
    f"{'µs/byte':>8} {'of bytes':>9}"
)


@dataclass
class Worst:
    """The dearest of *samples* samples so far; ``per_byte.seconds`` is 0 when none counted."""

    samples: int = 0
    time: Cost = field(default_factory=Cost)
    memory: Cost = field(default_factory=Cost)
    per_byte: Cost = field(default_factory=Cost)

    def learn(self, cost: Cost) -> bool:
        """Take *cost* into account; True when it is clearly more than was known."""
        news = False
        self.samples += 1
        if cost.seconds > self.time.seconds:
            news |= cost.seconds > DEARER * self.time.seconds
            self.time = cost
        if cost.mib > self.memory.mib:
            news |= cost.mib > DEARER * self.memory.mib + 1
            self.memory = cost
        if (
            cost.size >= COUNTED_BYTES
            and cost.microseconds_per_byte > self.per_byte.microseconds_per_byte
        ):
            news |= cost.microseconds_per_byte > DEARER * self.per_byte.microseconds_per_byte
            self.per_byte = cost
        return news

    def row(self, name: str) -> str:
        """A line below :data:`HEADING`."""
        if self.per_byte.seconds:
            each = f"{self.per_byte.microseconds_per_byte:8.2f} {self.per_byte.size:9,}"
        else:
            each = f"{'-':>8} {'-':>9}"
        return (
            f"{name:12} {self.samples:11,} {self.time.seconds:8.3f} {self.time.size:9,} "
            f"{self.memory.mib:7.1f} {self.memory.size:9,} {each}"
        )

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Worst:
        """Raises ValueError when the file is cut, KeyError or TypeError when it is another one."""
        found = json.loads(path.read_text())
        costs = {name: Cost(**found[name]) for name in ("time", "memory", "per_byte")}
        return cls(samples=found["samples"], **costs)
