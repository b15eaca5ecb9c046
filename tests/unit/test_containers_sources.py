"""What is said of the sources of containers at the end of a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ig_py.containers.sources import shortages


def discovery(**counts: int) -> Any:
    found = {"admitted": 4, "pending": 0, "missed": 0, "shut": 0, "full": 0, **counts}
    return SimpleNamespace(admission=SimpleNamespace(counts=lambda: found))


def test_nothing_is_said_where_there_was_room() -> None:
    assert shortages(discovery()) is None
    assert shortages(SimpleNamespace(admission=None)) is None  # type: ignore[arg-type]


def test_each_shortage_is_counted() -> None:
    assert shortages(discovery(missed=3, full=1)) == (
        "3 notices about processes were lost, 1 times the filter was full"
    )
    assert "12 namespaces were let in late" in str(shortages(discovery(shut=12)))
