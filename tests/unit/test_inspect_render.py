"""Values as JSON and YAML."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ig_py.errors import OutputError
from ig_py.inspect.render import render, to_json, to_yaml


def test_json_compact_and_pretty() -> None:
    value = {"b": [1, {"c": True}], "a": None, "e": [], "f": {}}
    assert render(value, "json") == '{"a":null,"b":[1,{"c":true}],"e":[],"f":{}}\n'
    assert render(value, "jsonpretty") == (
        '{\n  "a": null,\n  "b": [\n    1,\n    {\n      "c": true\n    }\n  ],\n'
        '  "e": [],\n  "f": {}\n}\n'
    )
    assert to_json({"b": 1, "a": 2}, sort=False) == '{"b":1,"a":2}'


def test_json_escapes_as_go_does() -> None:
    assert to_json("<a>&\u2028\x01\n\x7fé") == '"\\u003ca\\u003e\\u0026\\u2028\\u0001\\n\x7fé"'


def test_json_of_lone_surrogates_and_infinities() -> None:
    assert to_json("\ud800") == '"?"'
    with pytest.raises(OutputError):
        to_json(float("inf"))


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "",
        "true",
        "null",
        "12",
        "1e3",
        "0:00.150",
        "2026-11-23",
        "- dash",
        "a: b",
        "#x",
        "two\nlines\n",
        "trailing space \nx",
        "tab\there",
        "\x1b[31m",
        "é\u2028",
        "~",
        "=",
        {"k": ["a", {"b": "c"}], "z": {}},
        [],
        1.5,
        True,
        None,
    ],
)
def test_yaml_says_the_same(value: Any) -> None:
    assert yaml.safe_load(to_yaml(value)) == value


def test_yaml_style() -> None:
    assert to_yaml({"b": "0:00.150", "a": ["x"], "t": "l1\nl2\n"}) == (
        'a:\n- x\nb: "0:00.150"\nt: |\n  l1\n  l2\n'
    )


@pytest.mark.parametrize("value", [{"a": "x\n\n", "b": [1]}, ["x\n\n"], {"a": "..."}, ["\n"]])
def test_yaml_does_not_end_documents(value: Any) -> None:
    text = to_yaml(value)
    assert not text.endswith("\n...\n")
    assert yaml.safe_load(text) == value
