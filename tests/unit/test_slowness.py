"""Bounds of processor time are told for a usual machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ig_py.host import slowness as module
from ig_py.host.slowness import slowness


def clock(monkeypatch: pytest.MonkeyPatch, taken: list[float]) -> None:
    def readings() -> Iterator[float]:
        for seconds in taken:
            yield 5.0
            yield 5.0 + seconds

    values = readings()
    monkeypatch.setattr(module.time, "thread_time", lambda: next(values))


@pytest.mark.parametrize(
    ("taken", "expected"),
    [([0.09, 0.45, 0.2], 20.0), ([0.001, 0.02, 0.02], 1.0), ([0.0045, 0.9, 0.9], 1.0)],
)
def test_the_least_of_some_counts(
    monkeypatch: pytest.MonkeyPatch, taken: list[float], expected: float
) -> None:
    clock(monkeypatch, taken)
    assert slowness() == pytest.approx(expected)


def test_this_machine() -> None:
    assert 1.0 <= slowness() < 200
