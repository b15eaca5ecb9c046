"""A container is told of once as long as its init runs, however many sources saw its process."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from support.waiting import wait_for

from ig_py.containers import discovery as module
from ig_py.containers.discovery import Discovery
from ig_py.containers.init_facts import with_process
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.host.proc import HostView

ID = "cd" * 32
CONTAINER = Container(runtime=RuntimeInfo(name="docker", container_id=ID, container_name="web"))


def nothing() -> None:
    pass


def test_a_process_that_ends_while_a_second_source_looks_at_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meanwhile = nothing

    def slow(*args: Any, **options: Any) -> Container | None:
        """Something happens between a look at a process and taking its container in."""
        complete = with_process(*args, **options)
        meanwhile()
        return complete

    monkeypatch.setattr(module, "with_process", slow)
    found = Discovery([], HostView())
    told: list[str] = []
    found.collection.subscribe("test", lambda e: told.append(e.type.value))
    found.start()
    with subprocess.Popen(["sleep", "300"]) as init, subprocess.Popen(["sleep", "300"]) as again:
        try:
            found.started(CONTAINER, init.pid)
            assert told == ["CREATED"]

            def end() -> None:
                init.kill()
                wait_for(lambda: told == ["CREATED", "DELETED"], "its end", 10, 0.01)

            meanwhile = end
            found.started(CONTAINER, init.pid)
            assert told == ["CREATED", "DELETED"]
            meanwhile = nothing
            found.started(CONTAINER, again.pid)
            assert told == ["CREATED", "DELETED", "CREATED"], "an engine started it again"
        finally:
            found.stop()
            init.kill()
            again.kill()
