"""Who tells of containers: what each source is, whether it works here, what it cannot see."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from ig_py.records import dataclass

if TYPE_CHECKING:
    from ig_py.containers.discovery import Discovery


class Source(enum.Enum):
    """In the order in which they usually hear of a new container."""

    RUNTIMES = "runtime executions"
    """Tells that a container begins, not which process is its init."""
    KERNEL = "kernel scout"
    CGROUPS = "control groups"
    STATE = "runtime state"
    ENGINE = "engine events"
    PROCESSES = "processes"


BLIND = {
    Source.RUNTIMES: "runtimes elsewhere (RUNTIME_PATH), and executed otherwise than as a file",
    Source.KERNEL: "containers in the mount namespace of the host",
    Source.CGROUPS: "control groups not named by a 64-digit id, or elsewhere than Docker has them",
    Source.STATE: "runtimes other than runc and crun, and state kept elsewhere (--root)",
    Source.ENGINE: "what other engines start, and starts before the engine says so",
    Source.PROCESSES: "containers that live for less than a few seconds, or share a pid namespace",
}
"""What a source cannot see."""


@dataclass(frozen=True, slots=True)
class Status:
    """One source now. *detail*: where it looks, or why it does not."""

    source: Source
    active: bool
    detail: str
    blind: str

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source.value,
            "active": self.active,
            "detail": self.detail,
            "cannotSee": self.blind,
        }


_SHORTAGES = {
    "missed": "notices about processes were lost",
    "shut": "namespaces were let in late, since too many were new at once",
    "full": "times the filter was full",
}
"""A count of the scout's → its words."""


def statuses(discovery: Discovery, kernel: str | None) -> list[Status]:
    """Every source of a started *discovery*. *kernel*: why there is no scout; None: it works."""
    names = [client.name for client in discovery.clients if client.connected]
    detail = {
        Source.RUNTIMES: discovery.runs.status(),
        Source.KERNEL: (kernel is None, kernel or "tracepoints"),
        Source.CGROUPS: discovery.cgroup_status(),
        Source.STATE: discovery.state_status(),
        Source.ENGINE: (bool(names), ", ".join(names) or "no engine answers"),
        Source.PROCESSES: (
            discovery.view.same_pidns,
            "/proc" if discovery.view.same_pidns else "/proc is of another pid namespace",
        ),
    }
    return [Status(source, *detail[source], BLIND[source]) for source in Source]


def account(discovery: Discovery) -> str:
    """One line: who told of how many containers first, and how often sources disagreed."""
    firsts = [f"{n} by {source.value}" for source, n in discovery.firsts.items() if n]
    wrong = [f"{name} {n}" for name, n in disagreements(discovery).items() if n]
    return f"{', '.join(firsts) or 'none'}; disagreements: {', '.join(wrong) or 'none'}"


def shortages(discovery: Discovery) -> str | None:
    """What the kernel had no room for (docs/discovery.md#bounds); None when there was for all."""
    if discovery.admission is None:
        return None
    counts = discovery.admission.counts()
    found = [f"{counts[name]} {what}" for name, what in _SHORTAGES.items() if counts[name]]
    return ", ".join(found) or None


def disagreements(discovery: Discovery) -> dict[str, int]:
    """What one source told that another one should have told, too, since the start."""
    return {
        "foundByProcessesOnly": discovery.late,
        "missedByEngineEvents": sum(getattr(c, "missed", 0) for c in discovery.clients),
        "notToldByTheirEngine": discovery.untold,
        "runtimeNotSeen": discovery.runs.unbegun,
        "begunOnly": discovery.runs.fruitless,
    }
