"""The comparison as a table."""

from __future__ import annotations

from collections.abc import Sequence

from compare import Comparison

_WIDEST = 48
_CONTROL = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160))}


def _cell(text: str) -> str:
    plain = text.translate(_CONTROL)
    return plain if len(plain) <= _WIDEST else plain[: _WIDEST - 1] + "…"


def table(rows: Sequence[Sequence[str]]) -> str:
    """*rows*, the first being the heads, as aligned columns."""
    cells = [[_cell(text) for text in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def render(result: Comparison, left: str, right: str, ignored: frozenset[str]) -> str:
    """What differs between the tools *left* and *right*, for people."""
    parts = []
    if result.differences:
        rows = [["FIELD", "RULE", "EVENTS", left, right]]
        for found in sorted(result.differences.values(), key=lambda d: d.field):
            rows.append([found.field, found.rule, str(found.events), found.left, found.right])
        parts.append(table(rows))
    for name, events in ((left, result.only_left), (right, result.only_right)):
        parts += [f"only {name}: {_cell(event)}" for event in events]
    if ignored:
        parts.append(f"not compared: {', '.join(sorted(ignored))}")
    verdict = "same" if result.same else "DIFFERENT"
    parts.append(
        f"{verdict}: {result.pairs} events on both sides, {result.fields} fields each, "
        f"{len(result.differences)} fields differ, "
        f"{len(result.only_left)} events only {left}, {len(result.only_right)} only {right}"
    )
    return "\n".join(parts)
