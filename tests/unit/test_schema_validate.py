"""gadget.yaml against the schema: what is wrong, and in which line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ig_py.errors import LimitError, MetadataError
from ig_py.gadget import schema

ROOT = Path(__file__).parents[2]


def mistakes(text: str) -> list[str]:
    with pytest.raises(MetadataError) as failure:
        schema.validate(text.encode(), "gadget.yaml")
    return failure.value.detail.splitlines()


def test_the_schema_is_a_schema() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(json.loads(schema.SCHEMA_FILE.read_text()))


def test_the_root_gadget_follows_it() -> None:
    raw = (ROOT / "gadget.yaml").read_bytes()
    document, lines = schema.validate(raw, "gadget.yaml")
    assert document["programs"]["security_bprm_check"]["optional"] is True
    where = lines.line(["params", "ebpf", "paths"]) - 1
    assert raw.decode().splitlines()[where].strip() == "paths:"


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert schema.validate(b"", "f")[0] == {}


def test_unknown_keys_are_accepted() -> None:
    schema.validate(
        b"later: [1]\ndatasources:\n  a:\n    later: 1\n    fields:\n      b: {later: 2}\n", "f"
    )


def test_empty_parts_are_accepted() -> None:
    schema.validate(b"name:\ndatasources:\n  a:\n  b:\n    fields:\nparams:\n  ebpf:\n", "f")


def test_unquoted_annotation_values_are_accepted() -> None:
    schema.validate(
        b"datasources:\n  a:\n    fields:\n      b:\n        annotations:\n"
        b"          columns.hidden: true\n          columns.width: 12\n"
        b"          columns.minwidth: type\n          description:\n",
        "f",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", "gadget.yaml:1: the document: expected a mapping, not a list"),
        ("\nname: [a]", "gadget.yaml:2: name: expected a single value, not a list"),
        (
            "datasources:\n- a",
            "gadget.yaml:1: datasources: expected a mapping, not a list",
        ),
        (
            "datasources:\n  a:\n    fields:\n      b:\n        annotations:\n          c: {}",
            "gadget.yaml:6: datasources.a.fields.b.annotations.c: "
            "expected a single value, not a mapping",
        ),
        (
            "datasources:\n  a:\n    fields:\n      b:\n        annotations:\n"
            "          columns.alignment: middle",
            "gadget.yaml:6: datasources.a.fields.b.annotations.columns.alignment: "
            "'middle' is none of 'left', 'right'",
        ),
        (
            "datasources:\n  a:\n    fields:\n      b:\n        annotations:\n"
            "          columns.width: wide",
            "gadget.yaml:6: datasources.a.fields.b.annotations.columns.width: "
            "'wide' is not a number or 'type'",
        ),
        (
            "datasources:\n  a:\n    fields:\n      b:\n        annotations:\n"
            "          columns.precision: -1",
            "gadget.yaml:6: datasources.a.fields.b.annotations.columns.precision: "
            "-1 is not a number",
        ),
        (
            "datasources:\n  a:\n    fields:\n      b:\n        annotations:\n"
            "          columns.hidden: maybe",
            "gadget.yaml:6: datasources.a.fields.b.annotations.columns.hidden: "
            "'maybe' is none of 'true', 'false', true, false",
        ),
        (
            "params:\n  ebpf:\n    bad-name:\n      key: k",
            "gadget.yaml:3: params.ebpf.bad-name: 'bad-name' is not a valid name",
        ),
        (
            "params:\n  wasm:\n    x:\n      key: k\n      typeHint: uint128",
            "gadget.yaml:5: params.wasm.x.typeHint: 'uint128' is none of 'bool', ",
        ),
        (
            "programs:\n  p:\n    optional: sometimes",
            "gadget.yaml:3: programs.p.optional: expected true or false, not 'sometimes'",
        ),
        (
            "programs:\n  p:\n    fields: [1]",
            "gadget.yaml:3: programs.p.fields.0: expected text, not 1",
        ),
        (
            "operator:\n  process:\n    emitstats: maybe",
            "gadget.yaml:3: operator.process.emitstats: 'maybe' is none of ",
        ),
        (
            "operator:\n  process:\n    fields: pid",
            "gadget.yaml:3: operator.process.fields: expected a list, not 'pid'",
        ),
        (
            "operator:\n  cgroup:\n    first-interval: [1s]",
            "gadget.yaml:3: operator.cgroup.first-interval: expected a single value, not a list",
        ),
    ],
)
def test_a_mistake_has_a_line(text: str, expected: str) -> None:
    found = mistakes(text)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_all_mistakes_are_told_in_the_order_of_the_file() -> None:
    found = mistakes("name: [a]\nprograms:\n  p: 1\ndescription: {}\n")
    assert [line.split(" ")[0] for line in found] == [
        "gadget.yaml:1:",
        "gadget.yaml:3:",
        "gadget.yaml:4:",
    ]


def test_many_mistakes_are_cut() -> None:
    text = "annotations:\n" + "".join(f"  k{i}: []\n" for i in range(50))
    with pytest.raises(MetadataError) as failure:
        schema.validate(text.encode(), "f")
    assert failure.value.message.endswith("and 30 more")
    assert len(failure.value.detail.splitlines()) == 50


def test_long_values_are_cut() -> None:
    assert len(mistakes(f"programs:\n  p:\n    optional: {'x' * 5000}\n")[0]) < 200


def test_a_bomb_is_refused_before_the_schema() -> None:
    with pytest.raises(LimitError):
        schema.validate(b"[" * 100 + b"]" * 100, "f")
