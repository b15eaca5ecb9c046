"""What is said of the sources of containers at the end of a run."""

from __future__ import annotations

from ig_py.containers.report import shortages


def counts(**given: int) -> dict[str, int]:
    return {"admitted": 4, "pending": 0, "missed": 0, "shut": 0, "full": 0, **given}


def test_nothing_is_said_where_there_was_room() -> None:
    assert shortages(counts()) is None


def test_each_shortage_is_counted() -> None:
    assert shortages(counts(missed=3, full=1)) == (
        "3 notices about processes were lost, 1 times the filter was full"
    )
    assert "12 namespaces were let in late" in str(shortages(counts(shut=12)))
