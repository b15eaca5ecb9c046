"""Batches of lines, as a stream renders them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from support.core_plans import PlanMaker

if TYPE_CHECKING:
    from ig_py._core import Batch

LENGTH = 64
"""Bytes of a line."""
_AROUND = len(b'{"text":""}\n')


@cache
def _plan(datasource: str, size: int) -> str:
    made = PlanMaker(size)
    made.field("text", "char", 0, size)
    made.datasource["name"] = datasource
    return made.text()


def lines(datasource: str, count: int, length: int = LENGTH) -> Batch:
    """*count* lines of *length* bytes, each an event of *datasource*."""
    from ig_py._core import pipeline

    size = length - _AROUND
    return pipeline(_plan(datasource, size)).push(datasource, [b"y" * size] * count)
