"""How much of a processor the engine of a user may take from root's tracer.

Such an engine can send events without an end, and close connections for ever; each costs time, and
Python's lock, which the threads that follow containers need.
"""

from __future__ import annotations

import time

SHARE = 0.1
"""Of a processor, for the engine of a user."""
LEAST_SECONDS = 0.05
"""A rest that would be shorter is not taken yet."""


class Pace:
    """Of one thread, by its processor time. Use it in that thread only."""

    def __init__(self) -> None:
        self._spent = time.thread_time()

    def due(self) -> float:
        """Seconds to rest now, after the work since the last rest."""
        now = time.thread_time()
        seconds = (now - self._spent) * (1 / SHARE - 1)
        if seconds < LEAST_SECONDS:
            return 0.0
        self._spent = now
        return seconds
