"""Columns, ``--fields``, scaling and modes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ig_py.errors import OutputError, UsageError
from ig_py.gadget.param_values import split_by_datasource
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, FieldSpec, Flag, Kind
from ig_py.output.columns import choose_columns, column_of, default_flag, header, scaled
from ig_py.output.fields import split_fields
from ig_py.output.modes import check_modes, choose_mode, default_mode
from ig_py.output.scale import Bounds, scale

BASE = {"columns.width": "16", "columns.ellipsis": "end", "columns.alignment": "left"}


def datasource(*fields: FieldSpec, name: str = "exec", **annotations: str) -> DataSourceSpec:
    notes = {key.replace("_", "."): value for key, value in annotations.items()}
    for index, field in enumerate(fields):
        field.index = index
    return DataSourceSpec(name, DataSourceType.SINGLE, fields=list(fields), annotations=notes)


NONE = Flag(0)


def field(name: str, kind: Kind = Kind.STRING, flags: Flag = NONE, order: int = 0,
          **columns: str) -> FieldSpec:  # fmt: skip
    notes = BASE | {f"columns.{key}": value for key, value in columns.items()}
    return FieldSpec(name.split(".")[-1], name, 0, kind, flags=flags, order=order,
                     annotations=notes)  # fmt: skip


def names(ds: DataSourceSpec, fields: str | None) -> list[str]:
    return [c.name for c in choose_columns(ds, fields)]


def sample() -> DataSourceSpec:
    return datasource(
        field("comm", alias="comm", order=1),
        field("parent.comm", alias="comm", flags=Flag.HIDDEN),
        field("pid", Kind.UINT32, order=2),
        field("first", order=-5),
        field("group", Kind.INVALID, Flag.EMPTY),
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, ["first", "comm", "pid"]),
        ("", ["comm", "pid", "first"]),
        ("+parent.comm", ["comm", "pid", "first", "parent.comm"]),
        ("-pid", ["comm", "first"]),
        ("pid,PID,comm", ["pid", "comm"]),
        (" pid , comm ", ["pid", "comm"]),
        ("pid,+comm,-pid", ["comm"]),
        ("COMM", ["comm"]),
        ("exec:pid", ["pid"]),
        ("other:nosuch", ["first", "comm", "pid"]),
        ("other:nosuch;pid", ["pid"]),
    ],
)
def test_fields(wanted: str | None, expected: list[str]) -> None:
    assert names(sample(), wanted) == expected


@pytest.mark.parametrize("wanted", ["nosuch", "+nosuch", "-nosuch", "group", "pid,,nosuch"])
def test_unknown_fields(wanted: str) -> None:
    with pytest.raises(OutputError, match="is invalid"):
        names(sample(), wanted)


def test_default_flag() -> None:
    assert default_flag([sample()]) == "first,comm,pid"
    two = [sample(), datasource(field("x"), name="b")]
    assert default_flag(two) == "exec:first,comm,pid;b:x"


def test_column_attributes() -> None:
    ds = datasource(
        field("n", Kind.UINT16, width="type", minwidth="2", alignment="right", hex="true"),
        field("s", ellipsis="", fixed="true", maxwidth="9", replace="n"),
    )
    number, text = choose_columns(ds, None)
    assert number.plan() == {
        "field": 0, "width": 5, "align": "right", "ellipsis": "end", "hex": True, "precision": 0,
    }  # fmt: skip
    assert (number.minimum, number.maximum) == (2, 5)
    assert (text.source, text.ellipsis, text.fixed, text.maximum) == (0, "none", True, 9)


@pytest.mark.parametrize(
    ("key", "value"),
    [("width", "foo"), ("width", "-1"), ("width", "99999"), ("maxwidth", "1.5"),
     ("alignment", "center"), ("ellipsis", "both"), ("precision", "x")],
)  # fmt: skip
def test_wrong_annotations(key: str, value: str) -> None:
    ds = datasource(field("x", **{key: value}))
    with pytest.raises(OutputError, match='column "x"'):
        column_of(ds, ds.fields[0])


def test_header_cuts_and_pads() -> None:
    ds = datasource(
        field("a.long.name", width="6"),
        field("pid", Kind.UINT32, width="5", alignment="right"),
        field("gone", width="0"),
        field("one", width="1"),
    )
    assert header(choose_columns(ds, None)).decode() == "A.LON…   PID  …\n"


@given(
    st.lists(
        st.builds(
            Bounds,
            width=st.integers(0, 60),
            minimum=st.integers(0, 20),
            maximum=st.one_of(st.just(0), st.integers(20, 60)),
            fixed=st.booleans(),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 300),
)
def test_scaling_keeps_limits(columns: list[Bounds], terminal: int) -> None:
    widths = scale(columns, terminal)
    assert len(widths) == len(columns)
    for column, width in zip(columns, widths, strict=True):
        if column.fixed:
            assert width == column.width
        else:
            assert width >= column.minimum or width >= 0
    flexible = [c for c in columns if not c.fixed and not c.maximum and c.minimum == 0 and c.width]
    if flexible and all(c in flexible or c.fixed for c in columns):
        required = len(columns) - 1 + sum(c.width if c.fixed else 1 for c in columns)
        assert sum(widths) + len(columns) - 1 == max(terminal, required)


def test_scaling_of_nothing() -> None:
    assert scale([], 80) == []
    assert scaled([], 80) == []


def modes_of(output: str, **annotations: str) -> tuple[str | None, list[str]]:
    said: list[str] = []
    return choose_mode(datasource(field("x"), **annotations), output, said.append), said


def test_modes() -> None:
    assert modes_of("") == ("columns", [])
    assert modes_of("json") == ("json", [])
    assert modes_of("exec:yaml") == ("yaml", [])
    assert modes_of("exec:yaml,b:json") == ("yaml", [])
    assert modes_of("foo:json") == ("columns", [])


def test_unsupported_mode_is_skipped_with_a_warning() -> None:
    mode, said = modes_of("xml")
    assert mode is None
    assert said == [
        'output mode "xml" for data source "exec" is not supported; skipping data source'
    ]


def test_default_modes() -> None:
    notes = {"cli.supported-output-modes": "yaml,json"}
    ds = DataSourceSpec("d", DataSourceType.SINGLE, annotations=notes)
    said: list[str] = []
    assert default_mode(ds, said.append) == "json"
    ds.annotations["cli.default-output-mode"] = "columns"
    assert default_mode(ds, said.append) == "json"
    assert len(said) == 1
    ds.annotations["cli.default-output-mode"] = "yaml"
    assert default_mode(ds, said.append) == "yaml"


@pytest.mark.parametrize("text", ["json,exec:json", "exec:json,yaml", "json,yaml"])
def test_mixed_modes(text: str) -> None:
    with pytest.raises(UsageError, match="mixed values"):
        split_by_datasource(text, "default output modes")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exec:json,exec:yaml", 'data source "exec" is named twice'),
        ("exec:", '"exec:" has no value'),
        (":json", '":json" has no data source'),
        ("a:1,b:", '"b:" has no value'),
    ],
)
def test_values_of_data_sources_that_would_be_lost(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        split_by_datasource(text, "--max-entries")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("jsn", 'the gadget has no mode "jsn": give one of: columns, histogram, json'),
        ("exc:json", '--output: there is no data source "exc".*name one of: exec, hist'),
        ("exec:histogram", 'data source "exec" has no mode "histogram"'),
        ("hist:json", 'data source "hist" has no mode "json": give one of: histogram'),
        ("JSON", 'no mode "JSON"'),
    ],
)
def test_modes_that_do_not_exist(output: str, said: str) -> None:
    other = datasource(name="hist")
    other.annotations["cli.supported-output-modes"] = "histogram"
    with pytest.raises(UsageError, match=said):
        check_modes([datasource(), other], output)
    for fine in ("", "json", "histogram", "exec:json,hist:histogram", "none"):
        check_modes([datasource(), other], fine)


@pytest.mark.parametrize(
    ("text", "said"),
    [("a:x;a:y", '"a" is named twice'), ("x;y", "two lists for all data sources")],
)
def test_lists_of_fields_that_would_be_lost(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        split_fields(text)
