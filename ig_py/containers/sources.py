"""The sources that tell of containers, and what each of them cannot see."""

from __future__ import annotations

import enum
from typing import Any

from ig_py.records import dataclass


class DiscoverySource(enum.Enum):
    """In the order in which they usually hear of a new container."""

    RUNTIMES = "runtime executions"
    """Tells that a container begins, not which process is its init."""
    KERNEL = "kernel scout"
    CGROUPS = "control groups"
    STATE = "runtime state"
    ENGINE = "engine events"
    PROCESSES = "processes"


BLIND_SPOTS = {
    DiscoverySource.RUNTIMES: (
        "runtimes elsewhere (RUNTIME_PATH), and executed otherwise than as a file"
    ),
    DiscoverySource.KERNEL: "containers in the mount namespace of the host",
    DiscoverySource.CGROUPS: (
        "control groups not named by a 64-digit id, or elsewhere than Docker has them"
    ),
    DiscoverySource.STATE: (
        "runtimes other than runc and crun, and state kept elsewhere by runtimes whose execution"
        " is not seen (--root)"
    ),
    DiscoverySource.ENGINE: "what other engines start, and starts before the engine says so",
    DiscoverySource.PROCESSES: (
        "containers that live for less than a few seconds, or share a pid namespace"
    ),
}
"""What a source cannot see."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source now. *detail*: where it looks, or why it does not."""

    source: DiscoverySource
    active: bool
    detail: str
    blind_spots: str

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source.value,
            "active": self.active,
            "detail": self.detail,
            "cannotSee": self.blind_spots,
        }
