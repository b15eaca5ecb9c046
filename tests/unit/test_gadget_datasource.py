"""Adding fields: precedence of annotations, numbering, flags."""

from __future__ import annotations

from typing import Any

import pytest

from ig_py.errors import LimitError, MetadataError
from ig_py.gadget import datasource as module
from ig_py.gadget.datasource import add_field, add_formatted_field, new_datasource
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, Flag, Kind
from ig_py.gadget.templates import TEMPLATES


def ds_with(fields: dict[str, Any] | None = None) -> DataSourceSpec:
    metadata = Metadata({"datasources": {"x": {"fields": fields or {}}}})
    return new_datasource("x", DataSourceType.SINGLE, metadata)


def test_base_annotations_unless_given_others() -> None:
    ds = ds_with()
    base = {"columns.width": "16", "columns.ellipsis": "end", "columns.alignment": "left"}
    assert add_field(ds, "a", Kind.STRING).annotations == base
    assert add_field(ds, "b", Kind.STRING, annotations={}).annotations == {}


def test_a_template_overrides_the_operator() -> None:
    field = add_field(
        ds_with(), "a", Kind.STRING, annotations={"template": "bytes", "columns.width": "99"}
    )
    assert field.annotations == {"template": "bytes", **TEMPLATES["bytes"]}


def test_the_metadata_overrides_and_its_template_comes_first() -> None:
    fields = {"a": {"annotations": {"columns.width": 5, "template": "pid"}, "tags": ["t"]}}
    field = add_field(ds_with(fields), "a", Kind.STRING, tags=["own"])
    assert field.annotations["columns.width"] == "5"
    assert field.annotations["columns.minwidth"] == "7"
    assert field.annotations["columns.ellipsis"] == "end"
    assert field.tags == ["own", "t"]


def test_an_unknown_template_is_noted() -> None:
    ds = ds_with({"a": {"annotations": {"template": "PID"}}})
    add_field(ds, "a", Kind.STRING)
    assert ds.notes == ["template 'PID' not found for field 'a' of 'x'"]


def test_hidden_follows_the_annotation_but_false_clears_nothing() -> None:
    ds = ds_with({"a": {"annotations": {"columns.hidden": True}}})
    assert add_field(ds, "a", Kind.STRING).hidden
    assert not add_field(ds, "b", Kind.STRING, annotations={"columns.hidden": "TRUE"}).hidden
    hidden = add_field(
        ds, "c", Kind.STRING, annotations={"columns.hidden": "false"}, flags=Flag.HIDDEN
    )
    assert hidden.hidden


def test_numbering() -> None:
    ds = ds_with()
    group = add_field(ds, "k8s", Kind.STRING, flags=Flag.EMPTY)
    node = add_field(ds, "node", Kind.STRING, parent=group, order=-31)
    name = add_field(ds, "name", Kind.STRING, parent=group)
    top = add_field(ds, "top", Kind.UINT64)
    assert [(f.index, f.payload_index, f.order) for f in ds.fields] == [
        (0, 0, 0),
        (1, 0, -31),
        (2, 1, 0),
        (3, 2, 3),
    ]
    assert (group.kind, group.flags) == (Kind.INVALID, Flag.EMPTY)
    assert (node.full_name, node.parent) == ("k8s.node", 0)
    assert name.flags == Flag.HAS_PARENT
    assert top.parent is None


def test_a_twin_stands_where_its_source_does() -> None:
    ds = ds_with()
    group = add_field(ds, "g", Kind.STRING, flags=Flag.EMPTY)
    ordered = add_field(ds, "a_raw", Kind.UINT64, parent=group, order=7)
    plain = add_field(ds, "b_raw", Kind.UINT64, parent=group)
    assert add_formatted_field(ds, ordered, "a").order == 7
    formatted = add_formatted_field(ds, plain, "b")
    assert (formatted.full_name, formatted.order, formatted.kind) == ("g.b", 4, Kind.STRING)


def test_names_are_unique() -> None:
    ds = ds_with()
    add_field(ds, "a", Kind.STRING)
    with pytest.raises(MetadataError, match="'a' already exists"):
        add_field(ds, "a", Kind.UINT8)


def test_limit_of_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FIELDS", 1)
    ds = ds_with()
    add_field(ds, "a", Kind.STRING)
    with pytest.raises(LimitError):
        add_field(ds, "b", Kind.STRING)


def test_datasource_annotations_and_tags() -> None:
    metadata = Metadata({"dataSources": {"X": {"annotations": {"Fetch-Count": 3}, "tags": ["t"]}}})
    ds = new_datasource(
        "x", DataSourceType.ARRAY, metadata, defaults={"fetch-count": "1", "fetch-interval": "0"}
    )
    assert ds.annotations == {"fetch-count": "3", "fetch-interval": "0"}
    assert ds.tags == ["t"]
