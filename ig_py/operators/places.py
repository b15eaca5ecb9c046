"""Where callbacks of a wasm module stand: among the steps, or behind filters, sorting or limits."""

from __future__ import annotations

from ig_py.operators.filter import Filter
from ig_py.operators.limiter import Limiter
from ig_py.operators.sort import Sort

STEPS = "steps"
_PLACES = ("filters", "sort", "limit")
"""Keys of the plan's ``behind`` (docs/plan.md)."""
_BEHIND = (Filter.priority, Sort.priority, Limiter.priority)


def place(priority: int) -> str:
    """What a callback of this priority runs behind; :data:`STEPS`: it is among the steps."""
    reached = sum(priority > operator for operator in _BEHIND)
    return _PLACES[reached - 1] if reached else STEPS
