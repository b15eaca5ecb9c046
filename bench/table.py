"""The rows of a benchmark, and the table of their medians with the ratios between tools."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

TOOLS = ("ig-py", "base", "ig")


@dataclass
class Row:
    """One run under a load. Times in seconds; ``slowdown`` is the load's time over its time
    untraced; ``wakeups`` and ``cpu_ms`` are by second of the load. None: the load has no such
    figure (nothing is opened at rest) or the tool does not tell."""

    tool: str
    mode: str
    load: str
    produced: int
    emitted: int
    lost: int | None
    unaccounted: int | None
    cpu_ms_per_s: float
    cpu_us_per_event: float | None
    wakeups_per_s: float
    rss_kib: int
    attach_s: float
    slowdown: float | None


@dataclass
class LatencyRow:
    """Milliseconds from an open to its line in a pipe, of ``samples`` opens."""

    tool: str
    mode: str
    samples: int
    median_ms: float
    p99_ms: float


COLUMNS = (
    ("emitted", "emitted", "{:.0f}"),
    ("lost", "lost", "{:.0f}"),
    ("unaccounted", "unacc.", "{:.0f}"),
    ("cpu_ms_per_s", "CPU ms/s", "{:.2f}"),
    ("cpu_us_per_event", "CPU µs/event", "{:.2f}"),
    ("wakeups_per_s", "wake-ups/s", "{:.1f}"),
    ("rss_kib", "RSS KiB", "{:.0f}"),
    ("attach_s", "attached s", "{:.3f}"),
    ("slowdown", "slowdown", "{:.2f}"),
)
LATENCY_COLUMNS = (
    ("samples", "samples", "{:.0f}"),
    ("median_ms", "median ms", "{:.2f}"),
    ("p99_ms", "p99 ms", "{:.2f}"),
)
_COUNTS = frozenset({"emitted", "lost", "unaccounted", "samples", "named", "runs"})
"""Columns without a ratio: counts, which should be equal."""


class OfTool(Protocol):
    """A row of a table."""

    tool: str


def _median(rows: Sequence[OfTool], key: str) -> float | None:
    values = [getattr(row, key) for row in rows]
    return None if None in values else statistics.median(values)


def lines(
    rows: Sequence[OfTool],
    group: tuple[str, ...],
    columns: tuple[tuple[str, str, str], ...],
) -> list[str]:
    """Medians by *group* and tool, and ig-py's in proportion to those of each other tool."""
    heads = "".join(f"{name:10}" for name in (*group, "tool"))
    made = [heads + "".join(f"{head:>14}" for _, head, _ in columns)]

    def key(row: OfTool) -> tuple[str, ...]:
        return tuple(str(getattr(row, name)) for name in group)

    for of in dict.fromkeys(key(row) for row in rows):
        medians: dict[str, dict[str, float | None]] = {}
        for tool in TOOLS:
            here = [row for row in rows if key(row) == of and row.tool == tool]
            if not here:
                continue
            medians[tool] = {name: _median(here, name) for name, _, _ in columns}
            cells = "".join(_cell(medians[tool][name], form) for name, _, form in columns)
            made.append("".join(f"{name:10}" for name in (*of, tool)) + cells)
        for other in [tool for tool in TOOLS[1:] if tool in medians and "ig-py" in medians]:
            cells = "".join(
                _cell(_ratio(name, medians["ig-py"], medians[other]), "{:.2f}")
                for name, _, _ in columns
            )
            made.append("".join(f"{name:10}" for name in (*[""] * len(of), f"/ {other}")) + cells)
    return made


def _ratio(
    name: str, ours: dict[str, float | None], other: dict[str, float | None]
) -> float | None:
    here, there = ours[name], other[name]
    return here / there if name not in _COUNTS and here is not None and there else None


def _cell(value: float | None, form: str) -> str:
    return f"{'' if value is None else form.format(value):>14}"


def table(rows: list[Row], latency: list[LatencyRow]) -> str:
    made = lines(rows, ("mode", "load"), COLUMNS)
    if latency:
        made += ["", *lines(latency, ("mode",), LATENCY_COLUMNS)]
    return "\n".join(made)
