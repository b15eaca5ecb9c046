"""gadget.yaml as a runner sees it, and annotations from the command line."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ig_py.errors import IgPyError, LimitError, MetadataError, UsageError
from ig_py.gadget.metadata import Metadata, annotate, parse_annotation

DOCUMENT = b"""
name: Demo
dataSources:
  Exec:
    annotations: {columns.maxWidth: 16, cli.x: true, none: null, ratio: 1.0}
    fields:
      proc.Comm: {annotations: {description: literal}}
      parent: {pid: {annotations: {description: nested}}}
    tags: [a, 1]
"""


def test_keys_in_any_case_and_scalars_as_text() -> None:
    metadata = Metadata.parse(DOCUMENT)
    assert metadata.name == "Demo"
    assert metadata.texts(["datasources", "exec", "annotations"]) == {
        "columns.maxwidth": "16",
        "cli.x": "true",
        "none": "",
        "ratio": "1",
    }
    assert metadata.text_list(["DATASOURCES", "EXEC", "TAGS"]) == ["a", "1"]


def test_keys_with_dots_either_way() -> None:
    metadata = Metadata.parse(DOCUMENT)
    fields = ["datasources", "exec", "fields"]
    assert metadata.text([*fields, "proc.comm", "annotations", "description"]) == "literal"
    assert metadata.text([*fields, "parent.pid", "annotations", "description"]) == "nested"
    assert metadata.text(["datasources.exec.fields.proc.comm.annotations.description"]) == "literal"


def test_absent_is_empty() -> None:
    metadata = Metadata.parse(b"")
    assert metadata.get(["a", "b"]) is None
    assert metadata.text(["name"]) == ""
    assert metadata.mapping(["x"]) == {}
    assert metadata.text_list(["x"]) == []
    assert metadata.flag(["x"]) is False


@pytest.mark.parametrize("raw", [b"- a", b"text", b"{", b"a: *x", b"\xff"])
def test_invalid_metadata_is_refused(raw: bytes) -> None:
    with pytest.raises((MetadataError, LimitError)):
        Metadata.parse(raw)


def test_values_of_the_wrong_shape_are_told() -> None:
    metadata = Metadata({"name": ["x"], "list": {"a": 1}, "map": 1, "flag": "yes"})
    with pytest.raises(MetadataError, match="name: expected a scalar"):
        _ = metadata.name
    with pytest.raises(MetadataError, match="list: expected a list"):
        metadata.text_list(["list"])
    with pytest.raises(MetadataError, match="map: expected a mapping"):
        metadata.mapping(["map"])
    with pytest.raises(MetadataError, match="flag: expected true or false"):
        metadata.flag(["flag"])


def test_very_long_path() -> None:
    with pytest.raises(LimitError):
        Metadata().get(["a.b"] * 20)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ds:key=value", ("ds", "", "key", "value")),
        ("ds.field:a.b=c", ("ds", "field", "a.b", "c")),
        ("ds.f.g:k=", ("ds", "f.g", "k", "")),
        ("ds:k=a:b=c", ("ds", "", "k", "a:b=c")),
    ],
)
def test_annotations(text: str, parts: tuple[str, ...]) -> None:
    assert parse_annotation(text) == parts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mytr", "subject:assignment"),
        (":a=b", "empty subject or assignment"),
        ("ds:", "empty subject or assignment"),
        ("ds:foo", "key=value"),
        ("a:b:c", "subject:assignment"),
        ("ds:field:key=value", "subject:assignment"),
        ("ds:=v", "empty key"),
        ("ds.:a=b", "empty field or subfield"),
        ("ds.f.:a=b", "empty field or subfield"),
        (".f:a=b", "empty subject"),
    ],
)
def test_wrong_annotations_are_told(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_annotation(text)


def test_annotations_are_merged() -> None:
    metadata = Metadata.parse(DOCUMENT)
    annotate(metadata, ["exec.proc.comm:Description=mine", "exec:new=1", "other.f:a=b"])
    path = ["datasources", "exec", "fields", "proc.comm", "annotations", "description"]
    assert metadata.text(path) == "mine"
    assert metadata.text(["datasources", "exec", "annotations", "new"]) == "1"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_only_raise_our_errors(raw: bytes) -> None:
    with contextlib.suppress(IgPyError):
        metadata = Metadata.parse(raw)
        metadata.mapping(["datasources"])


@settings(max_examples=200, deadline=None)
@given(st.text("{}[]:,-ab&*!|> \n\"'#%0.", max_size=60))
def test_random_yaml_only_raises_our_errors(text: str) -> None:
    with contextlib.suppress(IgPyError):
        metadata = Metadata.parse(text.encode())
        _ = metadata.name
