"""The engine of a user gets a share of a processor, and few messages."""

from __future__ import annotations

import time

import pytest

from ig_py.containers.engines import pace


def test_rests_are_in_proportion_to_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 5.0
    monkeypatch.setattr(time, "thread_time", lambda: clock)
    found = pace.Pace()
    assert found.due() == 0
    clock += pace.LEAST_SECONDS * pace.SHARE / 2
    assert found.due() == 0, "it adds up"
    clock += 1
    assert found.due() == pytest.approx(9, rel=0.1)
    assert found.due() == 0
