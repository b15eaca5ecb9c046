"""What ``ig-py doctor`` and the end of a run say about the sources of containers."""

from __future__ import annotations

from collections.abc import Mapping

from ig_py.containers.discovery import Discovery
from ig_py.containers.sources import BLIND_SPOTS, DiscoverySource, SourceStatus

_SHORTAGES = {
    "missed": "notices about processes were lost",
    "shut": "namespaces were let in late, since too many were new at once",
    "full": "times the filter was full",
}
"""A count of the scout's → its words."""


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


def shortages(counts: Mapping[str, int]) -> str | None:
    """What the kernel had no room for (docs/discovery.md#bounds), by the scout's *counts*; None
    when there was room for all."""
    found = [f"{counts[name]} {words}" for name, words in _SHORTAGES.items() if counts[name]]
    return ", ".join(found) or None


def disagreements(discovery: Discovery) -> dict[str, int]:
    """Counts, since the start, of containers that a source has missed and another one has found."""
    return {
        "foundByProcessesOnly": discovery.unmanaged.found_by_processes_only,
        "missedByEngineEvents": sum(client.missed for client in discovery.engines.clients),
        "notToldByTheirEngine": discovery.not_told_by_engine,
        "runtimeNotSeen": discovery.executions.runtime_not_seen,
        "begunOnly": discovery.executions.begun_only,
    }
