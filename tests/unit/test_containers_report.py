"""What is said of the sources of containers at the end of a run."""

from __future__ import annotations

from ig_py.containers.report import shortages, unseen


def test_nothing_is_said_where_there_was_room() -> None:
    assert shortages(unseen({"admitted": 4, "missed": 0, "full": 0, "shut": 3}, 0, 0, 0)) is None


def test_each_shortage_is_counted() -> None:
    missing = unseen(
        {"missed": 3, "full": 1, "missed_of_users": 5}, late=2, contradicted=4, unread=6
    )
    assert sum(missing.values()) == 21
    assert shortages(missing) == (
        "3 new namespaces were not noticed, 5 new namespaces of users were not noticed,"
        " 2 containers were let in late, since too many namespaces were new at once,"
        " 1 times the filter was full, 6 times the host could not be read,"
        " 4 containers were not traced, or not any more, since sources contradict"
    )
