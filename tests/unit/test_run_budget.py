"""A budget of events: the flag, what the loader sets, and the table that the programs keep."""

from __future__ import annotations

import struct
from typing import cast

import pytest

from ig_py._core import Object
from ig_py.errors import ObjectError, UsageError
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, GadgetSpec, VariableSpec
from ig_py.runtime import budget
from ig_py.runtime.budget import BudgetReader, MountNamespace, budget_constants, parse_budget

FIRST, SECOND = 0xF0000001, 0xF0000002
SWITCH = VariableSpec("gadget_budget_interval_ns", ".rodata", 8, 8)
SLOTS = 4
TABLE = VariableSpec("gadget_budget_slots_events", ".bss", 64, 32 * SLOTS)

Slot = tuple[int, int, int, int]


class Section:
    """An object whose ``.bss`` holds the given slots."""

    def __init__(self) -> None:
        self.slots: dict[int, Slot] = {}

    def data(self, section: str, offset: int, size: int) -> bytes:
        assert (section, offset, size) == (TABLE.section, TABLE.offset, TABLE.size)
        empty = (0, 0, 0, 0)
        return b"".join(struct.pack("<QQQQ", *self.slots.get(i, empty)) for i in range(SLOTS))


def gadget(*variables: VariableSpec) -> GadgetSpec:
    spec = GadgetSpec(
        "g", {}, datasources=[DataSourceSpec("open", DataSourceType.SINGLE, map="events")]
    )
    spec.datasources[0].source = "tracer"
    spec.variables = list(variables)
    return spec


def read(reader: BudgetReader, section: Section) -> None:
    reader.read(cast(Object, section))


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("250", 250), ("0x10", 16), ("+7", 7)])
def test_budgets(text: str, value: int) -> None:
    assert parse_budget(text) == value


@pytest.mark.parametrize("text", ["-1", str(budget.MAX_BUDGET + 1), "9" * 20])
def test_budgets_out_of_bounds(text: str) -> None:
    with pytest.raises(UsageError, match="--budget"):
        parse_budget(text)


@pytest.mark.parametrize(("rate", "interval"), [(1, 10**9), (3, 333_333_334), (10**7, 100)])
def test_the_interval_never_exceeds_the_budget(rate: int, interval: int) -> None:
    assert budget_constants(gadget(SWITCH, TABLE), rate) == {SWITCH.name: interval}


def test_without_a_budget_nothing_is_set() -> None:
    assert budget_constants(gadget(), 0) == {}


@pytest.mark.parametrize("variables", [(), (SWITCH,), (TABLE,)])
def test_headers_without_a_budget_are_told(variables: tuple[VariableSpec, ...]) -> None:
    with pytest.raises(ObjectError, match="keep no budget") as failed:
        budget_constants(gadget(*variables), 5)
    assert "--budget" in str(failed.value)


def test_counts_grow_and_names_are_those_of_that_time() -> None:
    section, names = Section(), {FIRST: "old"}
    reader = BudgetReader(gadget(SWITCH, TABLE), lambda mntns: names.get(mntns, ""))
    read(reader, section)
    assert (reader.throttled["open"].total, reader.throttled["open"].by) == (0, {})
    section.slots[1] = (FIRST, FIRST, 99, 10)
    section.slots[2] = (SECOND, 2 * SECOND, 99, 3)
    read(reader, section)
    read(reader, section)
    names[FIRST] = "new"
    section.slots[1] = (FIRST, FIRST, 99, 14)
    read(reader, section)
    throttled = reader.throttled["open"]
    assert throttled.total == 17
    assert throttled.by == {
        MountNamespace(FIRST, "old"): 10,
        MountNamespace(FIRST, "new"): 4,
        MountNamespace(SECOND): 3,
    }


def test_a_slot_that_two_took_at_once_names_neither() -> None:
    section = Section()
    reader = BudgetReader(gadget(SWITCH, TABLE), lambda _mntns: "somebody")
    section.slots[0] = (SECOND, FIRST + SECOND, 99, 2)
    section.slots[SLOTS - 1] = (0, 0, 99, 5)
    read(reader, section)
    assert reader.throttled["open"].by == {MountNamespace(): 7}


def test_names_are_bounded_and_the_sum_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_NAMED", 1)
    section = Section()
    reader = BudgetReader(gadget(SWITCH, TABLE), lambda _mntns: "")
    section.slots = {0: (FIRST, FIRST, 0, 2), 1: (SECOND, SECOND, 0, 3)}
    read(reader, section)
    throttled = reader.throttled["open"]
    assert throttled.total == sum(throttled.by.values()) == 5
    assert throttled.by == {MountNamespace(FIRST): 2, MountNamespace(): 3}
