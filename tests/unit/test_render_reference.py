"""The core against a plain reference: any layout, any sample, the same bytes."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from typing import Any

import yaml
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from support import reference
from support.plan_strategies import PLAIN_NAMES, Case, cases
from support.reference_steps import Untold

from ig_py._core import Batch, pipeline

EXAMPLES = int(os.environ.get("IG_PY_EXAMPLES", "60"))
thorough = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def pushed(case: Case) -> Batch:
    """What the core makes of *case*; its counters agree with the reference's."""
    stream = pipeline(case.maker.text())
    stream.set_names(case.world.users, case.world.groups)
    for mntns, (netns, values) in case.world.containers.items():
        stream.set_container(mntns, netns, values)
    batch = stream.push("x", case.samples)
    counters = stream.counters()["x"]
    assert counters["received"] == len(case.samples)
    assert counters["received"] == sum(counters[k] for k in ("emitted", "discarded", "malformed"))
    assert batch.events == counters["emitted"]
    return batch


def expected(case: Case) -> reference.Outcome:
    """Examples that the reference cannot tell are thrown away."""
    try:
        return reference.run(case.maker.document, case.samples, case.world)
    except Untold:
        reject()


def no_constant(text: str) -> Any:
    raise AssertionError(f"{text} is no JSON")


def objects(lines: bytes) -> list[Any]:
    assert lines == b"" or lines.endswith(b"\n")
    return [json.loads(line, parse_constant=no_constant) for line in lines.split(b"\n")[:-1]]


def terminal_controls(text: str) -> list[str]:
    """Control, format (bidirectional, zero width) and line-breaking characters besides LF."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c != "\n"]


@thorough
@given(cases("json"))
def test_json(case: Case) -> None:
    batch, outcome = pushed(case), expected(case)
    assert batch.data == outcome.data
    assert batch.events == outcome.emitted
    assert len(objects(batch.data)) == outcome.emitted


@thorough
@given(cases("jsonpretty"))
def test_indented_json(case: Case) -> None:
    batch = pushed(case)
    assert batch.data == expected(case).data


@thorough
@given(cases("json"), st.sampled_from(["json", "jsonpretty"]))
def test_json_on_a_terminal(case: Case, mode: str) -> None:
    values = objects(pushed(case).data)
    case.maker.mode(mode, terminal=True)
    text = pushed(case).data.decode()
    assert terminal_controls(text) == []
    if mode == "json":
        assert objects(text.encode()) == values


@thorough
@given(cases("columns"))
def test_columns(case: Case) -> None:
    text = pushed(case).data.decode()
    assert text.encode() == expected(case).data
    assert terminal_controls(text) == []


class JsonNumbers(yaml.SafeLoader):
    """YAML whose numbers are JSON's: PyYAML wants a point before an exponent."""


JsonNumbers.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$"),
    list("-0123456789"),
)


def same(left: Any, right: Any) -> bool:
    """Equal in type as well: 1 is neither 1.0 nor true. Integral floats lose their point."""
    if isinstance(left, float) and isinstance(right, int | float) and not isinstance(right, bool):
        return left == right
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and bool(left == right)


@thorough
@given(cases("json"))
def test_yaml_is_the_json(case: Case) -> None:
    values = objects(pushed(case).data)
    case.maker.mode("yaml")
    text = pushed(case).data.decode()
    assert terminal_controls(text) == []
    documents = list(yaml.load_all(text, Loader=JsonNumbers)) if text else []
    assert len(documents) == len(values)
    assert all(map(same, documents, values)), text


@thorough
@given(cases("yaml", PLAIN_NAMES))
def test_yaml_layout(case: Case) -> None:
    """Byte for byte, but for texts and floats: their form is a choice (test_core_render.py)."""
    chosen = ("char", "str", "bytes", "f32", "f64")
    for spec in case.maker.fields:
        spec["json"] = spec["json"] and spec["kind"] not in chosen
    assert pushed(case).data == expected(case).data


@thorough
@given(cases("json"))
def test_rows_are_the_json(case: Case) -> None:
    case.maker.datasource["keep"] = True
    batch = pushed(case)
    assert all(map(same, batch.rows(), objects(batch.data)))
