"""Where /proc/PID/ns cannot be read, the kernel's notices are used."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from support.waiting import wait_for

from ig_py.containers import live
from ig_py.containers.discovery import Discovery
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.host.proc import HostView

ID = "ab" * 32
CONTAINER = Container(runtime=RuntimeInfo(name="docker", container_id=ID, container_name="web"))


class Blind(HostView):
    """Without the right to look at other processes."""

    def _pin(self, directory: str, kind: str) -> tuple[int, int]:
        return -1, 0

    def namespace(self, pid: int, kind: str) -> int | None:
        return None


class BlindAndElsewhere(Blind):
    """And in another pid namespace than the host's."""

    same_pidns = False


@pytest.fixture
def init() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "300"])
    yield child
    child.kill()
    child.wait()


@pytest.mark.parametrize("view", [Blind, BlindAndElsewhere])
def test_the_kernels_word(
    init: subprocess.Popen[bytes],
    view: type[Blind],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(live, "PROC_POLL_SECONDS", 0.02)
    found = Discovery([], view())
    told: list[tuple[str, int]] = []
    found.collection.subscribe("test", lambda e: told.append((e.type.value, e.container.mntns)))
    found.start()
    try:
        found.started(CONTAINER, init.pid)
        found.started(CONTAINER, init.pid)
        assert told == [("CREATED", 0)]
        assert caplog.text.count("CAP_SYS_PTRACE") == 1
        found.admit(CONTAINER, init.pid, 77, named=True)
        found.admit(CONTAINER, init.pid, 77, named=True)
        found.started(CONTAINER, init.pid)
        assert told[1:] == [("DELETED", 0), ("CREATED", 77)]
        assert found.live(ID)
        time.sleep(0.1)
        assert len(told) == 3, "looked at a few times, it is still there"
        init.kill()
        wait_for(lambda: told[3:] == [("DELETED", 77)], "its end", 5, 0.01)
    finally:
        found.stop()
    assert caplog.text.count("CAP_SYS_PTRACE") == 1
