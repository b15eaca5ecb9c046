"""The root gadget's fields are those of upstream's trace_exec, down to numbers and order.

data/trace_exec/fields.json was recorded on a machine where the operator that
adds containers was not active; descriptions are left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import root_spec

from ig_py.inspect.extra_info import datasources_document
from ig_py.operators.base import Context
from ig_py.operators.ebpf_enum import EbpfEnum
from ig_py.operators.formatters import Formatters
from ig_py.operators.uid_gid_resolver import UidGidResolver

pytestmark = pytest.mark.needs("clang")
DATA = Path(__file__).parent / "data" / "trace_exec" / "fields.json"
_LEFT_OUT = ("description", "value.one-of")


def recorded() -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = json.loads(DATA.read_text())
    return fields


def ours() -> list[dict[str, Any]]:
    spec = root_spec.spec()
    for operator in (EbpfEnum(), Formatters(), UidGidResolver()):
        operator.instantiate(Context(spec))
    [ds] = datasources_document(spec)
    assert (ds["name"], ds["type"]) == ("exec", 1)
    for field in ds["fields"]:
        for key in _LEFT_OUT:
            field["annotations"].pop(key, None)
    fields: list[dict[str, Any]] = ds["fields"]
    return fields


def test_names_places_kinds_flags_and_order() -> None:
    without = [{k: v for k, v in f.items() if k != "annotations"} for f in recorded()]
    assert [{k: v for k, v in f.items() if k != "annotations"} for f in ours()] == without


def test_members_of_a_field_come_in_the_recorded_order() -> None:
    assert [list(f) for f in ours()] == [list(f) for f in recorded()]


def test_annotations() -> None:
    assert {f["fullName"]: f["annotations"] for f in ours()} == {
        f["fullName"]: f["annotations"] for f in recorded()
    }


def test_params() -> None:
    params = {p.key: (p.type_hint, p.default) for p in root_spec.spec().params}
    assert params == {
        "pid": ("uint32", "0"),
        "tid": ("uint32", "0"),
        "uid": ("uint32", "4294967295"),
        "gid": ("uint32", "4294967295"),
        "comm": ("string", ""),
        "ignore-failed": ("bool", "true"),
        "paths": ("bool", "false"),
    }


def test_the_optional_program_names_existing_fields() -> None:
    spec = root_spec.spec()
    [program] = [p for p in spec.programs if p.optional]
    names = {f.full_name for f in spec.datasources[0].fields}
    assert program.fields_if_absent
    assert set(program.fields_if_absent) <= names
