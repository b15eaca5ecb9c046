"""A load of programs ends within bounds, whatever the verifier does."""

from __future__ import annotations

import os
import threading
import time

import pytest

from ig_py.errors import LimitError
from ig_py.runtime import bounded_load as module
from ig_py.runtime import verifier_work
from ig_py.runtime.bounded_load import MAX_VERIFIED, bounded_load
from ig_py.runtime.state import Stopped, StopRequest
from ig_py.runtime.verifier_work import VerifierWork


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


def test_instructions_of_the_verifier_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VerifierWork, "instructions", lambda _self: MAX_VERIFIED + 1)
    given_up = threading.Event()
    try:
        with pytest.raises(LimitError, match="more than 1,500,000 instructions of the kernel's"):
            bounded_load(lambda: given_up.wait(60), "x", StopRequest())
    finally:
        given_up.set()


def test_instructions_are_counted_from_the_beginning_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program counts once, and still when it is closed; those of before do not count."""
    held: dict[str, tuple[int, int]] = {"3": (1, 500)}

    def read(path: str, **_options: object) -> str:
        if path.endswith("/gone"):
            return ""
        if path.endswith("/pipe"):
            return "pos:\t0\nflags:\t02\n"
        program, count = held[path.rpartition("/")[2]]
        return f"prog_type:\t5\nprog_id:\t{program}\nrun_cnt:\t0\nverified_insns:\t{count}\n"

    monkeypatch.setattr(verifier_work, "read_text", read)
    monkeypatch.setattr(os, "listdir", lambda _path: [*held, "gone", "pipe"])
    work = VerifierWork()
    assert work.instructions() == 0
    held["4"] = (2, 30)
    held["5"] = (2, 30)
    assert work.instructions() == 30
    del held["4"], held["5"]
    held["6"] = (3, 4)
    assert work.instructions() == 34


def test_programs_that_are_refused_count(monkeypatch: pytest.MonkeyPatch) -> None:
    log = "program is too large. Processed 1000001 insn\nprocessed 1000001 insns (limit 1000000)\n"
    work, told, given_up = VerifierWork(), threading.Event(), threading.Event()

    def load() -> None:
        work.refused(log)
        told.wait(60)
        work.refused(log)
        given_up.wait(60)

    before = work.instructions()
    threading.Timer(0.3, told.set).start()
    try:
        with pytest.raises(LimitError, match="more than 1,500,000 instructions of the kernel's"):
            bounded_load(load, "x", StopRequest(), work)
    finally:
        given_up.set()
    assert work.instructions() - before == 2_000_002
    assert told.is_set()
    work.refused("a log of another kind")
    assert work.instructions() - before == 2_000_002


def busy_until(event: threading.Event) -> None:
    while not event.is_set():
        pass


def test_processor_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier takes long for some instructions, and some kernels do not count them."""
    monkeypatch.setattr(module, "MAX_LOAD_SECONDS", 0.2)
    given_up = threading.Event()
    try:
        with pytest.raises(LimitError, match="running gadget x: loading its programs takes more"):
            bounded_load(lambda: busy_until(given_up), "x", StopRequest())
    finally:
        given_up.set()


def test_a_slow_machine_has_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOAD_SECONDS", 0.1)
    monkeypatch.setattr(module, "slowness", lambda: 1000.0)

    def busy() -> str:
        began = time.thread_time()
        while time.thread_time() - began < 0.6:
            pass
        return "loaded"

    assert bounded_load(busy, "x", StopRequest()) == "loaded"


def test_time_of_other_threads_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOAD_SECONDS", 0.3)
    monkeypatch.setattr(module, "slowness", lambda: 1.0)
    ended = threading.Event()
    other = threading.Thread(target=busy_until, args=(ended,))
    other.start()

    def load() -> str:
        before = time.process_time()
        while time.process_time() - before < 0.6:
            time.sleep(0.02)
        return "loaded"

    try:
        assert bounded_load(load, "x", StopRequest()) == "loaded"
    finally:
        ended.set()
        other.join()
