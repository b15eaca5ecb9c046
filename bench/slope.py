"""The growth of memory with each container: a straight line through what was sampled.

A least-squares line of memory over the containers that were started. Samples before the warm-up
ends are left out, as caches fill and an allocator takes its first memory there. The standard
error assumes that the samples vary independently of each other; memory does not quite, so a slope
of less than two standard errors shows no growth, and one of more than two may still be chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_SECONDS_A_DAY = 86_400
_MIB = 1 << 20
_FEWEST = 3
"""Samples: two points make a line without an error."""


class NoSlope(Exception):
    """Too little was sampled; the message says what."""


@dataclass(frozen=True)
class Slope:
    """Bytes a container, and the standard error of that."""

    bytes_each: float
    error: float

    def mib_a_day(self, rate: float) -> float:
        """MiB in 24 hours of *rate* containers a second."""
        return self.bytes_each * rate * _SECONDS_A_DAY / _MIB


def slope(containers: Sequence[float], size: Sequence[float]) -> Slope:
    """Of *size* in bytes over the number of *containers* at the same time. Raises NoSlope."""
    count = len(containers)
    if count < _FEWEST:
        raise NoSlope(f"{count} samples after the warm-up: at least {_FEWEST} make a slope")
    mean_x, mean_y = sum(containers) / count, sum(size) / count
    spread = sum((x - mean_x) ** 2 for x in containers)
    if not spread:
        raise NoSlope("no container started after the warm-up")
    together = sum((x - mean_x) * (y - mean_y) for x, y in zip(containers, size, strict=True))
    each = together / spread
    left = sum(
        (y - mean_y - each * (x - mean_x)) ** 2 for x, y in zip(containers, size, strict=True)
    )
    return Slope(each, math.sqrt(left / (count - 2) / spread))
