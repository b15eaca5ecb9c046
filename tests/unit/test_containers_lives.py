"""A life of a container is told of once, however many saw its process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from support.waiting import wait_for

from ig_py.containers.discovery import Discovery
from ig_py.containers.model import Container, RuntimeInfo
from ig_py.host.proc import HostView, Process

ID = "cd" * 32
CONTAINER = Container(runtime=RuntimeInfo(name="docker", container_id=ID, container_name="web"))


def nothing() -> None:
    pass


class Slow(Discovery):
    """Something happens between a look at a process and taking its container in."""

    meanwhile: Callable[[], None] = staticmethod(nothing)

    def _complete(self, container: Container, process: Process) -> Container | None:
        found = super()._complete(container, process)
        self.meanwhile()
        return found


def test_a_process_that_ends_while_a_second_source_looks_at_it() -> None:
    found = Slow([], HostView())
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

            found.meanwhile = end
            found.started(CONTAINER, init.pid)
            assert told == ["CREATED", "DELETED"]
            found.meanwhile = nothing
            found.started(CONTAINER, again.pid)
            assert told == ["CREATED", "DELETED", "CREATED"], "an engine started it again"
        finally:
            found.stop()
            init.kill()
            again.kill()
