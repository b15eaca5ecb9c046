"""A missing file is waited for without looking for it again and again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.waiting import deadline

from ig_py.host import appearance
from ig_py.host.appearance import wait_for_path
from ig_py.host.latch import Latch


def later(work: Callable[[], object], seconds: float = 0.1) -> None:
    threading.Timer(seconds, work).start()


def waited(path: Path, wake: Latch | None = None, seconds: float = 60.0) -> tuple[bool, float]:
    latch = Latch() if wake is None else wake
    begun = time.monotonic()
    found = wait_for_path(str(path), latch.fileno(), seconds)
    return found, time.monotonic() - begun


def test_what_exists_is_not_waited_for(tmp_path: Path) -> None:
    assert waited(tmp_path)[0]


def test_a_file_that_comes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    later(path.touch)
    found, seconds = waited(path)
    assert found
    assert seconds < deadline(5)


def test_directories_that_come_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    later(path.parent.parent.mkdir)
    later(path.parent.mkdir, 0.4)
    later(path.touch, 0.8)
    found, seconds = waited(path)
    assert found
    assert seconds < deadline(5)


def test_a_directory_that_is_replaced(tmp_path: Path) -> None:
    path, other = tmp_path / "a" / "file", tmp_path / "b"
    path.parent.mkdir()
    other.mkdir()
    (other / "file").touch()

    def replace() -> None:
        path.parent.rename(tmp_path / "c")
        other.rename(path.parent)

    later(replace)
    found, seconds = waited(path)
    assert found
    assert seconds < deadline(5)


def test_a_wake_up_ends_the_wait(tmp_path: Path) -> None:
    wake = Latch()
    later(wake.set)
    found, seconds = waited(tmp_path / "none", wake)
    assert not found
    assert seconds < deadline(5)


def test_the_time_limit(tmp_path: Path) -> None:
    found, seconds = waited(tmp_path / "none", seconds=0.2)
    assert not found
    assert 0.19 < seconds < deadline(5)


def test_other_files_cause_few_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    exists = os.path.lexists

    def counted(path: str) -> bool:
        looks.append(path)
        return exists(path)

    monkeypatch.setattr(appearance.os.path, "lexists", counted)
    ending = threading.Event()

    def busy() -> None:
        number = 0
        while not ending.wait(0.001):
            (tmp_path / str(number)).touch()
            number += 1

    thread = threading.Thread(target=busy)
    thread.start()
    found, seconds = waited(tmp_path / "none", seconds=0.5)
    ending.set()
    thread.join()
    assert not found
    assert 2 < len(looks) <= 4 + 2 * seconds / appearance._LEAST_SECONDS
