"""The ``columns`` mode: from annotations to columns, a header and the plan's column list.

Cells are rendered by the core (docs/plan.md, ``output.columns``).
"""

from __future__ import annotations

from typing import Any

from ig_py.errors import OutputError
from ig_py.escaping import safe
from ig_py.gadget.spec import DataSourceSpec, FieldSpec, Flag, Kind
from ig_py.output.fields import choose_fields, split_fields
from ig_py.output.scale import Bounds, scale
from ig_py.records import dataclass, replace

DEFAULT_WIDTH = 16
MAX_WIDTH = 4096
"""Widest column that metadata or ``--annotate`` may ask for."""

_TYPE_WIDTH = {
    Kind.BOOL: 5,
    Kind.INT8: 4,
    Kind.INT16: 6,
    Kind.INT32: 11,
    Kind.INT64: 20,
    Kind.UINT8: 3,
    Kind.UINT16: 5,
    Kind.UINT32: 10,
    Kind.UINT64: 20,
}
_SWITCHES = ("columns.hidden", "columns.fixed", "columns.hex")
_NUMBERS = tuple(f"columns.{key}" for key in ("width", "minwidth", "maxwidth", "precision"))
_ALIGNMENTS = ("left", "right")
_ELLIPSES = {"": "none", "none": "none", "start": "start", "middle": "middle", "end": "end"}


@dataclass(frozen=True)
class Column:
    """One column; *source* is the index of the field whose value it shows."""

    name: str
    header: str
    source: int
    width: int = DEFAULT_WIDTH
    minimum: int = 0
    maximum: int = 0
    fixed: bool = False
    align: str = "left"
    ellipsis: str = "none"
    hex: bool = False
    precision: int = 0

    def plan(self) -> dict[str, Any]:
        """Its entry in the plan's ``output.columns``."""
        return {
            "field": self.source,
            "width": self.width,
            "align": self.align,
            "ellipsis": self.ellipsis,
            "hex": self.hex,
            "precision": self.precision,
        }


def column_of(ds: DataSourceSpec, field: FieldSpec) -> Column:
    """The column of *field*, as its ``columns.*`` annotations say.

    Raises:
        OutputError: A value is none of the allowed ones.
    """
    notes = field.annotations
    align = notes.get("columns.alignment") or "left"
    if align not in _ALIGNMENTS:
        raise OutputError(
            f'failed to get parser: invalid alignment type for column "{field.full_name}": {align}'
        )
    ellipsis = notes.get("columns.ellipsis", "")
    if ellipsis not in _ELLIPSES:
        raise OutputError(
            f'failed to get parser: invalid ellipsis type for column "{field.full_name}": '
            f"{ellipsis}"
        )
    source = field
    if replacement := notes.get("columns.replace"):
        source = ds.field(replacement) or field
    maximum = _size(field, "maxwidth", 0)
    if not maximum and not field.array:
        maximum = _TYPE_WIDTH.get(field.kind, 0)
    return Column(
        name=field.full_name,
        header=safe((notes.get("columns.alias") or field.full_name).upper()),
        source=source.index,
        width=_size(field, "width", DEFAULT_WIDTH),
        minimum=_size(field, "minwidth", 0),
        maximum=maximum,
        fixed=notes.get("columns.fixed") == "true",
        align=align,
        ellipsis=_ELLIPSES[ellipsis],
        hex=notes.get("columns.hex") == "true",
        precision=_integer(field, "precision", 0),
    )


def check_annotation(ds: DataSourceSpec, field: FieldSpec, key: str, value: str) -> None:
    """Check one annotation that a user gives *field*, which it has already.

    Raises:
        OutputError: The value is none of the allowed ones.
    """
    # As in `ig`, only "true" switches on; "FALSE" says what it does.
    if key in _SWITCHES and value != "true" and value.lower() != "false":
        raise OutputError(f'column "{field.full_name}": {key} is true or false, not "{value}"')
    if key in _NUMBERS and not value:
        raise OutputError(f'column "{field.full_name}": {key} has no value')
    if key == "columns.replace" and ds.field(value) is None:
        raise OutputError(
            f'column "{field.full_name}": data source "{ds.name}" has no field "{value}"'
        )
    if key.startswith("columns."):
        column_of(ds, field)


def _size(field: FieldSpec, key: str, default: int) -> int:
    if field.annotations.get(f"columns.{key}") == "type":
        return _TYPE_WIDTH.get(field.kind, default)
    return _integer(field, key, default)


def _integer(field: FieldSpec, key: str, default: int) -> int:
    text = field.annotations.get(f"columns.{key}", "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and int(text) <= MAX_WIDTH):
        raise OutputError(
            f'failed to get parser: reading {key} for column "{field.full_name}": '
            f'invalid {key} "{text}"'
        )
    return int(text)


def visible(ds: DataSourceSpec) -> list[FieldSpec]:
    """Fields shown without ``--fields``, in order of creation."""
    hidden = Flag.HIDDEN | Flag.EMPTY | Flag.UNREFERENCED
    return [f for f in ds.fields if not f.flags & hidden]


def default_fields(ds: DataSourceSpec) -> list[str]:
    """Full names of the visible fields, by their order (stable)."""
    return [f.full_name for f in sorted(visible(ds), key=lambda f: f.order)]


def default_flag(datasources: list[DataSourceSpec]) -> str:
    """The default of ``--fields`` as help shows it."""
    lists = {ds.name: ",".join(default_fields(ds)) for ds in datasources if not ds.unreferenced}
    if len(lists) == 1:
        return next(iter(lists.values()))
    return ";".join(f"{name}:{fields}" for name, fields in lists.items())


def choose_columns(ds: DataSourceSpec, fields: str | None) -> list[Column]:
    """The columns of *ds* under ``--fields`` *fields* (None: not given).

    Raises:
        OutputError: A column is not known, or an annotation is wrong.
    """
    usable = [f for f in ds.fields if not f.flags & (Flag.EMPTY | Flag.UNREFERENCED)]
    columns = {f.full_name: column_of(ds, f) for f in usable}
    default = default_fields(ds)
    wanted: str | None = None
    if fields is not None:
        common, by_name = split_fields(fields)
        wanted = by_name.get(ds.name, common)
    if wanted is None:
        return [columns[name] for name in default]
    known = {name.lower(): name for name in columns}
    # Several fields may have one alias (comm of a process and of its parent):
    # the first visible one is meant.
    for field in sorted(usable, key=lambda f: f.hidden):
        if alias := field.annotations.get("columns.alias", "").lower():
            known.setdefault(alias, field.full_name)
    positional = [f.full_name for f in visible(ds)]
    return [columns[name] for name in choose_fields(wanted, default, positional, known)]


def scaled(columns: list[Column], terminal: int) -> list[Column]:
    """*columns* fitted to *terminal* characters."""
    bounds = [Bounds(c.width, c.minimum, c.maximum, c.fixed) for c in columns]
    return [
        replace(column, width=width)
        for column, width in zip(columns, scale(bounds, terminal), strict=True)
    ]


def header(columns: list[Column]) -> bytes:
    """The header line with its newline."""
    return (" ".join(_cell(c) for c in columns) + "\n").encode("utf-8", "backslashreplace")


def _cell(column: Column) -> str:
    text = column.header
    if len(text) > column.width:
        text = text[: column.width - 1] + "…" if column.width > 0 else ""
    return text.rjust(column.width) if column.align == "right" else text.ljust(column.width)
