"""What ``ig-py doctor`` and the end of a run say about the sources of containers."""

from __future__ import annotations

from collections.abc import Mapping

from ig_py.containers.contradictions import Contradiction
from ig_py.containers.discovery import Discovery
from ig_py.containers.sources import BLIND_SPOTS, DiscoverySource, SourceStatus

_SHORTAGES = {
    "missed": "new namespaces were not noticed",
    "missed_of_users": "new namespaces of users were not noticed",
    "late": "containers were let in late, since too many namespaces were new at once",
    "full": "times the filter was full",
    "unread": "times the host could not be read",
    "contradicted": "containers were not traced, or not any more, since sources contradict",
}
"""A count of :func:`unseen` → its words."""


_CONTRADICTIONS = {
    Contradiction.NOT_OWN: "aboutProcessesOfOthers",
    Contradiction.ID: "sameIdTwice",
    Contradiction.NAMESPACE: "sameNamespaceTwice",
    Contradiction.TOO_MANY: "tooManyOfOneUser",
}


def statuses(discovery: Discovery, scout_refusal: str | None) -> list[SourceStatus]:
    """Every source of a started *discovery*. *scout_refusal*: why the kernel's scout cannot be
    had; None when it can."""
    names = [client.name for client in discovery.engines.clients if client.connected]
    details = {
        DiscoverySource.RUNTIMES: discovery.executions.status(),
        DiscoverySource.KERNEL: (scout_refusal is None, scout_refusal or "tracepoints"),
        DiscoverySource.CGROUPS: discovery.cgroups.status(),
        DiscoverySource.STATE: discovery.unmanaged.status(),
        DiscoverySource.ENGINE: (bool(names), ", ".join(names) or "no engine answers"),
        DiscoverySource.PROCESSES: (
            discovery.view.same_pidns,
            "/proc" if discovery.view.same_pidns else "/proc is of another pid namespace",
        ),
    }
    return [
        SourceStatus(source, *details[source], BLIND_SPOTS[source]) for source in DiscoverySource
    ]


def account(discovery: Discovery) -> str:
    """One line: how many containers each source found first, and how often sources disagreed."""
    found = [f"{n} by {source.value}" for source, n in discovery.found_first.items() if n]
    wrong = [f"{name} {n}" for name, n in disagreements(discovery).items() if n]
    return f"{', '.join(found) or 'none'}; disagreements: {', '.join(wrong) or 'none'}"


def unseen(counts: Mapping[str, int], late: int, contradicted: int, unread: int) -> dict[str, int]:
    """How many containers may have events that neither the output nor a data source's count of
    losses has, by reason.

    *counts*: the scout's. *late*: containers whose first events passed no filter. *contradicted*:
    containers that are selected by what one source says, and not by what counts. *unread*: files
    of the host that could not be read, by which a container may have been missed.
    """
    return {
        "missed": counts.get("missed", 0),
        "missed_of_users": counts.get("missed_of_users", 0),
        "late": late,
        "full": counts.get("full", 0),
        "unread": unread,
        "contradicted": contradicted,
    }


def shortages(missing: Mapping[str, int]) -> str | None:
    """What is in *missing* (:func:`unseen`), in words (docs/discovery.md#bounds); None when nothing
    is."""
    found = [f"{missing[name]} {words}" for name, words in _SHORTAGES.items() if missing.get(name)]
    return ", ".join(found) or None


def disagreements(discovery: Discovery) -> dict[str, int]:
    """Counts, since the start, of containers that a source has missed and another one has found."""
    return {
        "foundByProcessesOnly": discovery.unmanaged.found_by_processes_only,
        "missedByEngineEvents": sum(client.missed for client in discovery.engines.clients),
        "notToldByTheirEngine": discovery.not_told_by_engine,
        "runtimeNotSeen": discovery.executions.runtime_not_seen,
        "begunOnly": discovery.executions.begun_only,
        **{_CONTRADICTIONS[kind]: n for kind, n in discovery.contradictions.counts.items()},
    }
