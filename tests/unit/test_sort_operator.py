"""``--sort``: which fields, in which data source."""

from __future__ import annotations

import pytest

from ig_py.errors import UsageError
from ig_py.gadget.datasource import add_field, new_datasource
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, Flag, GadgetSpec, Kind
from ig_py.operators.base import Context
from ig_py.operators.sort import Sort


def array(name: str) -> DataSourceSpec:
    ds = new_datasource(name, DataSourceType.ARRAY, Metadata({}))
    group = add_field(ds, "proc", Kind.INVALID, flags=Flag.EMPTY)
    add_field(ds, "pid", Kind.UINT32, parent=group)
    add_field(ds, "comm", Kind.STRING)
    add_field(ds, "raw", Kind.BYTES)
    return ds


def keys(text: str, *names: str) -> dict[str, list[tuple[int, bool]]]:
    sources = [array(name) for name in names or ("a",)]
    sources.append(DataSourceSpec("single", DataSourceType.SINGLE))
    context = Context(GadgetSpec("g", {}, datasources=sources), params={"operator.sort.sort": text})
    assert Sort().instantiate(context)
    return {
        name: [(key["field"], key["descending"]) for key in found]
        for name, found in context.plan.sorts.items()
    }


def test_rules() -> None:
    assert keys("") == {}
    assert keys("proc.PID,-comm") == {"a": [(1, False), (2, True)]}
    assert keys("a:comm;b:-proc.pid", "a", "b") == {"a": [(2, False)], "b": [(1, True)]}
    assert keys("comm", "a", "b") == {"a": [(2, False)], "b": [(2, False)]}
    assert keys("a:comm;a:-proc.pid", "a", "b") == {"a": [(2, False), (1, True)]}
    assert keys("comm;-proc.pid") == {"a": [(2, False), (1, True)]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nosuch", 'no field "nosuch"'),
        ("proc", 'field "proc" has no value'),
        ("raw", 'field "raw" has no value'),
        ("comm;a:comm", "mixed"),
        ("single:comm", 'no data source "single" to apply it to: name one of: a'),
        ("nosuch:comm", '--sort: there is no data source "nosuch"'),
        ("a:", '"a:" has no rules'),
        (":comm", '":comm" has no data source'),
        (",".join(["comm"] * 65), "more than 64"),
    ],
)
def test_wrong_rules(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        keys(text)
