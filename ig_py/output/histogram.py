"""Histograms as text (docs/reference/operators.md#metrics)."""

from __future__ import annotations

from collections.abc import Sequence

STARS = 40
"""Length of the longest bar."""


def render(slots: Sequence[int], unit: str) -> str:
    """Rows of powers of two: slot i counts what is above 2^(i-1) and at most 2^i.

    An empty line ends it.
    """
    most = max(slots, default=0)
    lines = [f"        {unit:<16} : count    distribution"]
    for i, count in enumerate(slots):
        low = 1 << (i - 1) if i else 0
        bar = "*" * (count * STARS // most if most else 0)
        lines.append(f"{low:>10} -> {1 << i:<10} : {count:<8} |{bar:<{STARS}}|")
    return "\n".join(lines) + "\n\n"
