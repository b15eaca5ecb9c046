"""The podman client: the Docker-compatible half of podman's socket, of root or of a user.

Without podman's service there is no socket: its containers are then found by the state of their
runtime and by their monitor (``unmanaged``).
"""

from __future__ import annotations

import logging
from typing import ClassVar

from ig_py.containers.engines.docker import DockerClient
from ig_py.containers.engines.docker_http import DockerTransport
from ig_py.containers.model import Container
from ig_py.records import replace


class PodmanClient(DockerClient):
    """The engine at ``/run/podman/podman.sock``."""

    name = "podman"
    # podman's filter compares its own names of events, which differ from those that it sends.
    events: ClassVar[dict[str, list[str]]] = {"type": ["container"]}
    # For a container that does not exist podman answers with status 500.
    inspect_level: ClassVar[int] = logging.DEBUG

    def _ask_state_roots(self, transport: DockerTransport) -> None:
        """It does not say where; its command line does (``state_roots.of_process``)."""

    def _with_digest(self, transport: DockerTransport, container: Container) -> Container:
        # ig leaves the digest empty (docs/reference/cli.md#listing-containers).
        return replace(container, runtime=replace(container.runtime, name=self.name))
