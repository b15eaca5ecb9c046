"""How slow this machine is, for bounds of processor time that hold on every machine.

A time that is long on a server is short in an emulated machine, which takes twenty times as long
for the same work. A bound is told in seconds of a usual machine, and multiplied.
"""

from __future__ import annotations

import time

_ROUNDS = 100_000
_USUAL_SECONDS = 0.0045
"""What :func:`_seconds` is on a server processor of 2020, by Python 3.11."""
_TIMES = 3


def slowness() -> float:
    """How many times longer than a usual machine this one takes, at least 1: measured, in some
    hundredths of a second."""
    # The least: caches that other processes empty make a machine no slower.
    return max(1.0, min(_seconds() for _ in range(_TIMES)) / _USUAL_SECONDS)


def _seconds() -> float:
    began = time.thread_time()
    value = 0
    for number in range(_ROUNDS):
        value = (value * 31 + number) & 0xFFFF
    return time.thread_time() - began
