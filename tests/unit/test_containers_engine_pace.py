"""The engine of a user gets a share of a processor, and few messages."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from ig_py.containers.engines import pace
from ig_py.containers.engines.docker_http import DockerTransport
from ig_py.containers.engines.engine import EngineError


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


def test_a_users_engine_is_read_with_rests(tmp_path: Path) -> None:
    """Also where its answer is none: it begins without an end."""
    path = str(tmp_path / "socket")
    rests = 0

    def rest() -> None:
        nonlocal rests
        rests += 1
        if rests == 50:
            raise ConnectionAbortedError("enough")

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            while True:
                peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        with pytest.raises(EngineError):
            DockerTransport(path, "podman", rest).negotiate()
        thread.join()
    assert rests == 50
