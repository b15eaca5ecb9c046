"""No descriptor or memory left is not taken for a file that is absent without a word."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ig_py.host import files
from ig_py.host.proc import HostView


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_said", set())


def failing(number: int) -> Callable[..., Any]:
    def fail(*_arguments: Any, **_more: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("open", lambda: files.read_bytes("/proc/self/stat")),
        ("read", lambda: files.read_bytes("/proc/self/stat")),
        ("listdir", lambda: HostView().pids()),
        ("open", lambda: HostView().owner_of(1)),
    ],
)
def test_it_is_said_once(
    number: int,
    name: str,
    look: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(number))
        results = [look(), look()]
    assert not any(results)
    assert caplog.text.count(os.strerror(number)) == 1
    assert "may be missed" in caplog.text


def test_absence_is_not_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert files.read_bytes(str(tmp_path / "none")) == b""
    assert caplog.text == ""
