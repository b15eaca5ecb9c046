"""Work that a run does at intervals, in its own thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ig_py.records import dataclass

if TYPE_CHECKING:
    from ig_py.operators.running import Timer


@dataclass
class _Pending:
    due: int
    left: int
    timer: Timer


class Timers:
    """Work at intervals; intervals that passed meanwhile are not made up for."""

    def __init__(
        self, timers: Sequence[Timer], clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._clock = clock
        now = clock()
        self._pending = [_Pending(now + timer.first, timer.times, timer) for timer in timers]

    def wait_ms(self, longest: int) -> int:
        """Milliseconds until the next work, at most *longest*; rounded up."""
        return wait_ms((pending.due for pending in self._pending), self._clock(), longest)

    def run(self) -> None:
        """Do what is due."""
        for pending in list(self._pending):
            if pending.due > self._clock():
                continue
            pending.timer.work()
            if pending.left == 1:
                self._pending.remove(pending)
                continue
            pending.left -= 1 if pending.left else 0
            pending.due = next_due(pending.due, pending.timer.interval, self._clock())


def next_due(due: int, interval: int, now: int) -> int:
    """The first time after *now* that is a whole number of intervals after *due*."""
    return due + (max(0, now - due) // interval + 1) * interval


def wait_ms(due: Iterable[int], now: int, longest: int) -> int:
    left = min(due, default=None)
    if left is None:
        return longest
    return max(0, min(longest, -(-(left - now) // 1_000_000)))
