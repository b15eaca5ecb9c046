"""What operators declare before a gadget is loaded: plain data, without a handle of the kernel.

:class:`PlanParts` goes to :func:`ig_py.runtime.plan.compile_plan` and :class:`LoadParts` to
:class:`ig_py.runtime.loader.Loader`, each as the operators filled it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ig_py.records import dataclass, field

if TYPE_CHECKING:
    from ig_py._core import Map, WasmGuest


class Turn(IntEnum):
    """When a step of some priority was subscribed: ``ig`` runs steps of equal priority in that
    order."""

    MODULE_INIT = 0
    """By ``gadgetInit`` of the wasm module."""
    LAYER = 1
    """By the eBPF layer."""
    MODULE_PRE_START = 2
    """By ``gadgetPreStart`` of the wasm module."""
    OPERATOR = 3


@dataclass(frozen=True)
class Step:
    """One native pipeline step: *body* is an entry of the plan's ``steps`` (docs/plan.md)."""

    priority: int
    body: dict[str, Any]
    turn: Turn = Turn.OPERATOR

    @property
    def place(self) -> tuple[int, int]:
        """Steps run by ascending places; those of one place in the order of their addition."""
        return self.priority, self.turn


@dataclass
class PlanParts:
    """The operators' share of the plan; every key below is described in docs/plan.md.

    All but ``symbols`` are by data source name. Filled by
    :meth:`~ig_py.operators.base.Operator.instantiate`.

    Attributes:
        steps: What the pipeline does with each sample, in any order: the plan sorts them.
        filters: Comparisons that an event must meet.
        conditions: Expressions that an event must meet.
        sorts: Order of an array's elements.
        limits: Most elements of an array.
        metrics: Sums that are kept of the events.
        symbols: Where user stacks get their names; empty: from their processes' files.
    """

    steps: dict[str, list[Step]] = field(default_factory=dict)
    filters: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    conditions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sorts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    symbols: dict[str, Any] = field(default_factory=dict)

    def add_step(
        self, datasource: str, priority: int, turn: Turn = Turn.OPERATOR, /, **body: Any
    ) -> Step:
        """Append a step for *datasource*: see :attr:`Step.place`."""
        step = Step(priority, body, turn)
        self.steps.setdefault(datasource, []).append(step)
        return step


@dataclass(frozen=True)
class KernelStruct:
    """A struct that objects are relocated against as if the kernel's BTF had it.

    Attributes:
        size: Bytes.
        members: (name, offset in bytes, bytes of the number, elements; 0 for no array).
    """

    name: str
    size: int
    members: tuple[tuple[str, int, int, int], ...]


@dataclass
class LoadParts:
    """The operators' share of what is loaded. Filled by ``Operator.pre_start``.

    Attributes:
        constants: Values of the object's variables, by variable name.
        maps: Maps that replace the object's own, by map name.
        kernel_structs: Structs to relocate the object against.
        value_sizes: Bytes of a value, by map name.
        guest: The gadget's wasm module, whose callbacks are among the plan's steps.
    """

    constants: dict[str, bool | int | bytes] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    kernel_structs: list[KernelStruct] = field(default_factory=list)
    value_sizes: dict[str, int] = field(default_factory=dict)
    guest: WasmGuest | None = None
