"""Headers as `ig` prints them: default columns, ``--fields``, terminals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ig_py.gadget.spec import ARRAY_KIND, DataSourceSpec, DataSourceType, FieldSpec, Flag, Kind
from ig_py.output.columns import choose_columns, header, scaled

DATA: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "trace_open_columns.json").read_text()
)


def datasource() -> DataSourceSpec:
    fields = [
        FieldSpec(
            f["fullName"].rsplit(".", 1)[-1],
            f["fullName"],
            index,
            Kind(f["kind"] & ~ARRAY_KIND),
            flags=Flag(f["flags"]),
            order=f["order"],
            annotations=f["annotations"],
        )
        for index, f in enumerate(DATA["fields"])
    ]
    return DataSourceSpec(DATA["datasource"], DataSourceType.SINGLE, fields=fields)


def test_default() -> None:
    assert header(choose_columns(datasource(), None)).decode() == DATA["default"] + "\n"


@pytest.mark.parametrize("fields", DATA["headers"])
def test_fields(fields: str) -> None:
    assert header(choose_columns(datasource(), fields)).decode() == DATA["headers"][fields] + "\n"


@pytest.mark.parametrize("width", DATA["tty"])
def test_terminals(width: str) -> None:
    columns = scaled(choose_columns(datasource(), None), int(width))
    assert header(columns).decode() == DATA["tty"][width] + "\n"
