"""This checkout's ig-py in a container of a real engine: its files are mounted, no image is built.

The libraries and Python are this machine's, at the same places.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.running_gadget import IG_PY, RUNNING
from support.waiting import deadline, wait_for

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

HOST_ROOT = "/host"
_CHECKOUT = Path(__file__).resolve().parents[2]


def mounts(*more: Path) -> dict[str, dict[str, str]]:
    """Volumes: what the interpreter needs, the host, and *more*, all of it read-only."""
    places = [Path(p) for p in ("/usr", "/lib", "/lib64")]
    places += [Path(sys.base_prefix), Path(sys.prefix).resolve(), _CHECKOUT, *more]
    found = {str(p): {"bind": str(p), "mode": "ro"} for p in places if p.exists()}
    return {"/": {"bind": HOST_ROOT, "mode": "ro"}, **found}


class Tracer:
    """A detached container that runs ``ig-py ARGUMENTS``; a context manager that removes it."""

    def __init__(
        self,
        client: DockerClient,
        image: str,
        arguments: Sequence[str],
        *,
        volumes: dict[str, dict[str, str]],
        program: Sequence[str] = (IG_PY,),
        **options: Any,
    ) -> None:
        """*program*: nothing when the image has an entry point; *options*: the engine's."""
        options = {"cap_drop": ["ALL"], "network_mode": "none", "name": "tracer", **options}
        self._container: Container = client.containers.create(
            image,
            [*program, *arguments],
            volumes=volumes,
            environment={"HOST_ROOT": HOST_ROOT, "HOME": "/tmp"},
            **options,
        )

    def __enter__(self) -> Tracer:
        self._container.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_args: object) -> None:
        try:
            if error is not None:
                print(self.out, self.err, sep="\n")
        finally:
            self._container.remove(force=True)

    @property
    def out(self) -> str:
        return self._container.logs(stdout=True, stderr=False).decode()

    @property
    def err(self) -> str:
        return self._container.logs(stdout=False, stderr=True).decode()

    def wait_running(self, seconds: float = 60) -> None:
        def attached() -> bool:
            self._container.reload()
            if self._container.status == "exited":
                raise AssertionError(f"the tracer ended: {self.err}")
            return RUNNING in self.err

        wait_for(attached, "the gadget runs in its container", seconds)

    def ended(self, seconds: float = 60) -> int:
        """Wait for its own end; the exit code."""
        code: int = self._container.wait(timeout=deadline(seconds))["StatusCode"]
        return code

    def stop(self) -> int:
        """As ``docker stop`` does; the exit code, 137 when it had to be killed."""
        self._container.stop(timeout=int(deadline(20)))
        return self.ended()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@contextlib.contextmanager
def background(client: DockerClient, image: str, name: str, *argv: str) -> Iterator[Container]:
    """A container of the host that is there during the block."""
    container = client.containers.run(
        image, list(argv), name=name, network_mode="none", detach=True
    )
    try:
        yield container
    finally:
        container.remove(force=True)
