"""Waiting on conditions, not on seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SLOWNESS = float(os.environ.get("IG_PY_SLOWNESS", "1"))
"""How many times slower than a usual machine this one is (an emulated guest: 10)."""


def deadline(seconds: float) -> float:
    """*seconds* as they pass on this machine."""
    return seconds * SLOWNESS


def wait_for(
    condition: Callable[[], T | None], what: str, seconds: float = 30, step: float = 0.05
) -> T:
    """The first true value of *condition*; TimeoutError naming *what* after the deadline."""
    end = time.monotonic() + deadline(seconds)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {deadline(seconds):.0f} s")
        time.sleep(step)
