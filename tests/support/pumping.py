"""Batches of a stream as a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ig_py._core import Batch, Stream


def next_batches(stream: Stream, timeout_ms: int | None) -> list[Batch]:
    """What comes first within *timeout_ms* (None: without a limit), or what is there (0)."""
    batches: list[Batch] = []
    stream.pump(batches.append, timeout_ms, busy_ms=0)
    return batches
