"""Arrays: the elements of one reading rendered as one, in every mode, sorted and limited."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.core_plans import PlanMaker

from ig_py._core import CoreError, pipeline

NUMBER, NAME, REAL = 0, 1, 2


def maker(**more: Any) -> PlanMaker:
    made = PlanMaker(16)
    made.field("n", "i32", 0, 4)
    made.field("name", "char", 4, 4)
    made.field("real", "f64", 8, 8)
    made.datasource |= {"array": True} | more
    return made


def element(n: int, name: str = "", real: float = 0.0) -> bytes:
    return struct.pack("<i4sd", n, name.encode(), real)


def render(made: PlanMaker, *elements: bytes) -> str:
    stream = pipeline(made.text())
    try:
        return stream.push("x", elements).data.decode()
    finally:
        stream.close()


def numbers(made: PlanMaker, *elements: bytes) -> list[int]:
    return [e["n"] for e in json.loads(render(made, *elements))]


def test_json_is_one_array_a_line() -> None:
    assert render(maker()) == "[]\n"
    text = render(maker(), element(1, "a"), element(-2, "b", 0.5))
    assert text == '[{"n":1,"name":"a","real":0},{"n":-2,"name":"b","real":0.5}]\n'


def test_pretty() -> None:
    made = maker().mode("jsonpretty")
    assert render(made) == "[]\n"
    text = render(made, element(1, "a"), element(2, "b"))
    assert text == json.dumps(json.loads(text), indent=2) + "\n"


def test_yaml_has_a_document_an_element() -> None:
    made = maker().mode("yaml")
    assert render(made) == ""
    assert render(made, element(1, "a"), element(2, "b")) == (
        '---\n"n": 1\nname: a\nreal: 0\n---\n"n": 2\nname: b\nreal: 0\n'
    )


def test_columns_have_a_header_each() -> None:
    columns = [{"field": NUMBER, "width": 3, "align": "right"}]
    made = maker().mode("columns", columns=columns, header="  N\n")
    assert render(made) == "  N\n"
    assert render(made, element(1), element(22)) == "  N\n  1\n 22\n"


def test_arrays_follow_each_other() -> None:
    stream = pipeline(maker(sort=[{"field": NUMBER}], limit=2).text())
    sizes = [3, 0, 1]
    for size in sizes:
        batch = stream.push("x", [element(size - n) for n in range(size)])
        assert [e["n"] for e in json.loads(batch.data)] == [1, 2, 3][: min(size, 2)]
        assert batch.events == min(size, 2)
    counters = stream.counters()["x"]
    assert counters == {
        "received": 4,
        "emitted": 3,
        "discarded": 1,
        "malformed": 0,
        "unidentified": 0,
        "lost": 0,
        "lost_others": 0,
        "lost_unidentified": 0,
    }


def test_filters_come_before_the_limit() -> None:
    made = maker(limit=2)
    made.filter(NUMBER, ">", "1")
    assert numbers(made, *(element(n) for n in range(5))) == [2, 3]
    assert numbers(maker(limit=0), element(1)) == []


def test_sorted_by_several_fields() -> None:
    elements = [element(3, "b"), element(1, "a"), element(2, "b"), element(9, "")]
    by_name = {"field": NAME}
    by_number = {"field": NUMBER, "descending": True}
    assert numbers(maker(sort=[by_name, by_number]), *elements) == [9, 1, 3, 2]
    assert numbers(maker(sort=[by_number]), *elements) == [9, 3, 2, 1]


def test_equal_elements_change_their_order_when_descending() -> None:
    elements = [element(n, "same") for n in range(3)]
    assert numbers(maker(sort=[{"field": NAME}]), *elements) == [0, 1, 2]
    assert numbers(maker(sort=[{"field": NAME, "descending": True}]), *elements) == [2, 1, 0]


@given(st.lists(st.tuples(st.integers(-3, 3), st.sampled_from("abc")), max_size=30), st.data())
def test_as_python_sorts(rows: list[tuple[int, str]], data: st.DataObject) -> None:
    keys = data.draw(
        st.lists(st.tuples(st.sampled_from([NUMBER, NAME]), st.booleans()), min_size=1, max_size=3)
    )
    made = maker(sort=[{"field": field, "descending": down} for field, down in keys])
    expected = list(enumerate(rows))
    for field, down in reversed(keys):
        if down:
            expected.reverse()
        expected.sort(key=lambda e, f=field: e[1][0 if f == NUMBER else 1], reverse=down)  # type: ignore[misc]
    samples = [element(n, name, float(i)) for i, (n, name) in enumerate(rows)]
    got = [int(e["real"]) for e in json.loads(render(made, *samples))]
    assert got == [i for i, _ in expected]


def test_steps_fill_fields_before_sorting() -> None:
    made = maker()
    text = made.slot("text")
    made.step("enum", src=NUMBER, dst=text, values=[[1, "zebra"], [2, "ant"]])
    made.datasource["sort"] = [{"field": text}]
    rows = json.loads(render(made, element(1), element(2), element(3)))
    assert [r["text"] for r in rows] == ["UNKNOWN", "ant", "zebra"]


def test_kept_events_are_those_shown() -> None:
    stream = pipeline(maker(keep=True, limit=1).text())
    assert [r["n"] for r in stream.push("x", [element(5), element(6)]).rows()] == [5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sort": [{"field": 77}]}, "unknown field 77"),
        ({"sort": [{"field": 0}], "array": False}, "only arrays"),
        ({"limit": 1, "array": False}, "only arrays"),
        ({"sort": [{"field": 0}] * 65}, "at most 64"),
        ({"read_from": {"map": "m", "programs": [{"name": "p"}]}}, "one map, or from"),
        ({"read_from": {}}, "one map, or from"),
        ({"read_from": {"map": "m"}, "array": False}, "only arrays"),
        ({"rest": {"field": 0}}, "must be a slot"),
    ],
)
def test_impossible_arrays(change: dict[str, Any], said: str) -> None:
    with pytest.raises(CoreError) as failure:
        pipeline(maker(**change).text())
    assert said in failure.value.message


def test_fetch_needs_something_to_fetch() -> None:
    stream = pipeline(maker().text())
    with pytest.raises(CoreError, match="nothing to read"):
        stream.read_array("x")
    with pytest.raises(CoreError, match="no data source y"):
        stream.read_array("y")
    with pytest.raises(ValueError, match="open descriptor"):
        stream.read_array("x", [-1])


def rest_maker(length: bool) -> PlanMaker:
    made = PlanMaker(4)
    made.field("len", "u32", 0, 4)
    made.slot("data", kind="bytes")
    made.datasource["rest"] = {"field": 1, "length": 0 if length else None}
    return made


def test_bytes_behind_the_struct() -> None:
    sample = struct.pack("<I", 2) + b"\x01\xfe\x00\x00"
    assert render(rest_maker(True), sample) == '{"data":"01fe","len":2}\n'
    assert render(rest_maker(False), sample) == '{"data":"01fe0000","len":2}\n'
    columns = [{"field": 1, "width": 9}]
    assert render(rest_maker(True).mode("columns", columns=columns), sample) == "<2 bytes>\n"
    assert render(rest_maker(False), b"\x05") == '{"data":"","len":5}\n'


def test_a_sample_shorter_than_it_says_is_lost() -> None:
    stream = pipeline(rest_maker(True).text())
    batch = stream.push("x", [struct.pack("<I", 5) + b"abcd", struct.pack("<I", 4) + b"abcd"])
    assert batch.events == 1
    counters = stream.counters()["x"]
    assert (counters["received"], counters["malformed"]) == (2, 1)
