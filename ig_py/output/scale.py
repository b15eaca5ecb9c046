"""Fitting columns to a terminal's width (docs/reference/cli.md#width-of-a-terminal)."""

from __future__ import annotations

from collections.abc import Sequence

from ig_py.records import dataclass


@dataclass(frozen=True)
class Bounds:
    """Nominal *width* of a column and its limits in characters; *maximum* 0: none."""

    width: int
    minimum: int = 0
    maximum: int = 0
    fixed: bool = False


def scale(columns: Sequence[Bounds], terminal: int) -> list[int]:
    """Width of every column on a terminal of *terminal* characters.

    Columns share the room in proportion to their nominal widths; one that
    would break a limit takes the limit and leaves the sharing. What rounding
    leaves goes one by one, left to right, to those still sharing.
    """
    if not columns:
        return []
    dividers = len(columns) - 1
    required = dividers + sum(c.width if c.fixed else c.minimum or 1 for c in columns)
    room = max(terminal, required) - dividers
    widths = [c.width if c.fixed else 0 for c in columns]
    settled = [c.fixed for c in columns]
    taken = sum(widths)
    nominal = sum(c.width for c in columns if not c.fixed)
    while not all(settled):
        marked = []
        for i, column in enumerate(columns):
            if settled[i]:
                continue
            share = column.width * (room - taken) // nominal if nominal > 0 else 0
            widths[i] = share
            if column.maximum and share > column.maximum:
                widths[i] = column.maximum
                marked.append(i)
            elif share < column.minimum:
                widths[i] = column.minimum
                marked.append(i)
        if not marked:
            break
        for i in marked:
            settled[i] = True
            taken += widths[i]
            nominal -= columns[i].width
    sharing = [i for i, done in enumerate(settled) if not done]
    left = room - sum(widths)
    for n in range(left if sharing else 0):
        widths[sharing[n % len(sharing)]] += 1
    return widths
