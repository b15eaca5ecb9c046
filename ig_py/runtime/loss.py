"""Counts of lost events, as records and as a summary (docs/loss.md).

Counts are cumulative and never reset. ``lost`` is None where the object counts no failed outputs:
then loss in the kernel is not measurable, which is not zero. Events that could not be written are
counted in any case.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ig_py.gadget.load import loss_counter
from ig_py.records import dataclass

if TYPE_CHECKING:
    from ig_py._core import Counters
    from ig_py.gadget.spec import GadgetSpec
    from ig_py.runtime.budget import Throttled

MAX_SHOWN = 5
"""Containers over budget that a summary names."""
MAX_LISTED = 100
"""Containers over budget that a record lists, the largest counts first."""


@dataclass(frozen=True)
class Account:
    """Counts of one data source.

    Attributes:
        emitted: Events written.
        lost: Events lost of what is selected; None: not measurable.
        unwritten: Events taken from the kernel that could not be written.
        throttled: Events kept back by a budget, which are no loss; None without a budget.
        unseen: Containers that may have events which are not in the other counts.
        others: Events that the kernel lost of mount namespaces that are not selected.
        unidentified: Events that the kernel lost of mount namespaces of which it is not known
            whether they are selected.
        mixed: The object cannot tell whose events it lost: *lost* has also those of namespaces
            that are not selected.
    """

    datasource: str
    emitted: int
    lost: int | None
    unwritten: int
    throttled: Throttled | None = None
    unseen: int = 0
    others: int = 0
    unidentified: int = 0
    mixed: bool = False

    @property
    def missing(self) -> int:
        """Events of what is selected that are known not to have reached the reader."""
        return (self.lost or 0) + self.unwritten

    def summary(self) -> str:
        if self.lost is not None:
            lost = f"{self.missing} lost"
            lost += " (of any container)" if self.mixed and self.lost else ""
        else:
            lost = "lost: not measurable"
            lost += f", {self.unwritten} not written" if self.unwritten else ""
        if self.others:
            lost += f", {self.others} lost of other namespaces"
        if self.unidentified:
            lost += f", {self.unidentified} lost of unidentified namespaces"
        if self.unseen:
            lost += f", {self.unseen} containers or namespaces unseen"
        return f"{self.datasource}: {self.emitted} events emitted, {lost}{self._throttled()}"

    def _throttled(self) -> str:
        if self.throttled is None:
            return ""
        largest = self.throttled.largest()
        names = [f"{namespace} {count}" for namespace, count in largest[:MAX_SHOWN]]
        if rest := sum(count for _, count in largest[MAX_SHOWN:]):
            names.append(f"{len(largest) - MAX_SHOWN} more {rest}")
        return f", {self.throttled.total} throttled" + (f" ({', '.join(names)})" if names else "")


def account(
    counters: Mapping[str, Counters],
    unwritten: Mapping[str, int],
    throttled: Mapping[str, Throttled],
    unseen: int = 0,
    mixed: Collection[str] = (),
) -> list[Account]:
    """The counters of kernel and pipeline, together with the events that the writer gave up.

    *mixed*: names of data sources, see :class:`Account`.
    """
    return [
        Account(
            name,
            c["emitted"] - unwritten.get(name, 0),
            c["lost"],
            unwritten.get(name, 0),
            throttled.get(name),
            unseen,
            c["lost_others"],
            c["lost_unidentified"],
            name in mixed,
        )
        for name, c in counters.items()
    ]


def mixing(spec: GadgetSpec) -> frozenset[str]:
    """Names of the data sources whose object cannot tell of which mount namespaces it lost events:
    it was built without ``gadget/loss_table.h``."""
    return frozenset(
        ds.name
        for ds in spec.datasources
        if ds.source == "tracer" and "loss_table" not in loss_counter(spec, ds.map)
    )


class LossReport:
    """Turns accounts into records of new loss; docs/loss.md describes their keys."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._seen_throttled: dict[str, int] = {}
        self._measurable = True
        self._unseen = 0
        self._unidentified: dict[str, int] = {}
        self._most_unidentified: dict[str, int] = {}

    @property
    def lossless(self) -> bool:
        """False when events of what is selected were or may have been lost, as of the last
        accounts, or when loss is not measurable."""
        lost = any(self._seen.values()) or any(self._unidentified.values())
        return self._measurable and not self._unseen and not lost

    def records(self, accounts: list[Account]) -> list[dict[str, Any]]:
        """One record for each data source that lost or throttled events since the last call."""
        found = []
        for entry in accounts:
            self._measurable &= entry.lost is not None
            self._unseen = max(self._unseen, entry.unseen)
            new = entry.missing - self._seen.setdefault(entry.datasource, 0)
            throttled = self._new_throttled(entry)
            if new <= 0 and not self._more_unidentified(entry) and not throttled:
                continue
            self._seen[entry.datasource] += max(new, 0)
            found.append(
                {
                    "type": "loss",
                    "time_ns": time.time_ns(),
                    "datasource": entry.datasource,
                    "new": max(new, 0),
                    "lost": entry.missing,
                    "unwritten": entry.unwritten,
                    "others": entry.others,
                    "unidentified": entry.unidentified,
                    "emitted": entry.emitted,
                    "measurable": entry.lost is not None,
                }
                | throttled
            )
        return found

    def _more_unidentified(self, entry: Account) -> bool:
        """Whether there are more than ever; the number decreases when namespaces are identified."""
        name, count = entry.datasource, entry.unidentified
        self._unidentified[name] = count
        more = count > self._most_unidentified.get(name, 0)
        if more:
            self._most_unidentified[name] = count
        return more

    def _new_throttled(self, entry: Account) -> dict[str, Any]:
        """A record's keys about the budget; empty when no further event was over it."""
        if entry.throttled is None:
            return {}
        total = entry.throttled.total
        new = total - self._seen_throttled.get(entry.datasource, 0)
        if new <= 0:
            return {}
        self._seen_throttled[entry.datasource] = total
        return {
            "throttled_new": new,
            "throttled": total,
            "throttled_by": [
                {"mntns": namespace.mntns, "container": namespace.container, "throttled": count}
                for namespace, count in entry.throttled.largest()[:MAX_LISTED]
            ],
        }
