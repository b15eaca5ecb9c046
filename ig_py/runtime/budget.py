"""A budget of events for each mount namespace (docs/fairness.md): setting it, and reading which
namespaces were over it.

The eBPF side is ``gadget/fairness.h``; an object that was built without it has neither the
switch nor the counts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from ig_py.errors import ObjectError, UsageError
from ig_py.gadget.spec import GadgetSpec, VariableSpec
from ig_py.numbers import parse_literal
from ig_py.records import dataclass, field

if TYPE_CHECKING:
    from ig_py._core import Object

SWITCH = "gadget_budget_interval_ns"
SLOTS = "gadget_budget_slots_"
MAX_BUDGET = 10_000_000
"""Events a second; an interval is whole nanoseconds, so more would round badly."""
MAX_NAMED = 4096
"""Namespaces of one data source with counts of their own; further ones share one count."""
MAX_SLOTS_SIZE = 16 << 20

_SLOT = struct.Struct("<QQQQ")
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class MountNamespace:
    """A mount namespace and its container; *mntns* 0: several, whose counts are one sum."""

    mntns: int = 0
    container: str = ""

    def __str__(self) -> str:
        return self.container or (f"mntns {self.mntns}" if self.mntns else "others")


@dataclass
class Throttled:
    """Events of one data source that were over budget, since the start; *by* adds up to *total*."""

    total: int = 0
    by: dict[MountNamespace, int] = field(default_factory=dict)

    def largest(self) -> list[tuple[MountNamespace, int]]:
        return sorted(self.by.items(), key=lambda entry: (-entry[1], str(entry[0])))


def parse_budget(text: str) -> int:
    """Value of ``--budget``, in events a second; 0: none.

    Raises:
        UsageError: It is negative or more than MAX_BUDGET.
    """
    budget = parse_literal(text)
    if not 0 <= budget <= MAX_BUDGET:
        raise UsageError(
            f'invalid argument "{text}" for "--budget" flag: expected events a second, '
            f"0 (no budget) to {MAX_BUDGET}"
        )
    return budget


def budget_constants(spec: GadgetSpec, budget: int) -> dict[str, int]:
    """Values of the object's variables that set *budget* events a second; empty for 0.

    Raises:
        ObjectError: The object was built without ``gadget/fairness.h``.
    """
    if not budget:
        return {}
    if spec.variable(SWITCH) is None or not _tables(spec):
        raise ObjectError(
            f"gadget {spec.name} cannot limit what each container sends: "
            "the headers it was built with keep no budget",
            remedy="leave out --budget, or build the gadget with this version's image build",
        )
    return {SWITCH: -(-_SECOND_NS // budget)}


def _tables(spec: GadgetSpec) -> dict[str, VariableSpec]:
    """Data source → the variable that counts its map's events by namespace."""
    found = {}
    for ds in spec.datasources:
        if ds.source != "tracer":
            continue
        table = spec.variable(SLOTS + ds.map)
        if table is not None and table.size % _SLOT.size == 0 and table.size <= MAX_SLOTS_SIZE:
            found[ds.name] = table
    return found


class BudgetReader:
    """Reads the counts of a running object.

    A container's name is looked up when its count grows: later the container may be gone, and
    another mount namespace may have its inode number.

    Args:
        container_of: Names the container of a mount namespace; "" when it has none.
    """

    def __init__(self, spec: GadgetSpec, container_of: Callable[[int], str]) -> None:
        self._tables = _tables(spec)
        self._container_of = container_of
        self._seen: dict[str, dict[int, int]] = {name: {} for name in self._tables}
        self.throttled = {name: Throttled() for name in self._tables}

    def read(self, obj: Object) -> None:
        """Bring :attr:`throttled` up to date.

        Raises:
            CoreError: The counts cannot be read.
        """
        for name, table in self._tables.items():
            raw = obj.data(table.section, table.offset, table.size)
            self._take(self.throttled[name], self._seen[name], raw)

    def _take(self, throttled: Throttled, seen: dict[int, int], raw: bytes) -> None:
        for index, (mntns, claimed, _full_at, count) in enumerate(_SLOT.iter_unpack(raw)):
            new = count - seen.get(index, 0)
            if new <= 0:
                continue
            seen[index] = count
            # A slot sums the ids of the namespaces that share it. Ids have 32 bits, the highest
            # of them set: a sum is a multiple of one id only when all of them are equal.
            unshared = mntns and claimed % mntns == 0
            namespace = (
                MountNamespace(mntns, self._container_of(mntns)) if unshared else MountNamespace()
            )
            if namespace not in throttled.by and len(throttled.by) >= MAX_NAMED:
                namespace = MountNamespace()
            throttled.total += new
            throttled.by[namespace] = throttled.by.get(namespace, 0) + new
