"""A load of programs ends within bounds, whatever the verifier does."""

from __future__ import annotations

import threading
import time

import pytest

from ig_py.errors import LimitError
from ig_py.runtime import bounded_load as module
from ig_py.runtime.bounded_load import bounded_load
from ig_py.runtime.state import Stopped, StopRequest


def test_results_and_errors_are_those_of_the_load() -> None:
    assert bounded_load(lambda: 3, "x", StopRequest()) == 3
    with pytest.raises(ZeroDivisionError):
        bounded_load(lambda: 1 // 0, "x", StopRequest())


def test_a_load_that_ends_in_time_counts_though_a_stop_was_asked_for() -> None:
    stop = StopRequest()
    stop.set()
    assert bounded_load(lambda: 3, "x", stop) == 3


def test_a_stop_does_not_wait_for_the_load() -> None:
    stop, release = StopRequest(), threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    try:
        with pytest.raises(Stopped):
            bounded_load(lambda: release.wait(60), "x", stop)
    finally:
        release.set()
    assert time.monotonic() - began < 10


def test_processor_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOAD_SECONDS", 0.2)
    given_up = threading.Event()

    def busy() -> None:
        while not given_up.is_set():
            pass

    try:
        with pytest.raises(LimitError, match="running gadget x: loading its programs took more"):
            bounded_load(busy, "x", StopRequest())
    finally:
        given_up.set()
