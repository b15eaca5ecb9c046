"""Filters of the core: what passes, and what is refused when the plan is compiled."""

from __future__ import annotations

import struct

import pytest
from support.core_plans import PlanMaker

from ig_py._core import CoreError, pipeline


def maker_of(field: str, op: str, value: str) -> PlanMaker:
    maker = PlanMaker(32)
    ids = {
        "u": maker.field("u", "u32", 0, 4),
        "i": maker.field("i", "i16", 4, 2),
        "f": maker.field("f", "f64", 8, 8),
        "b": maker.field("b", "bool", 16, 1),
        "t": maker.field("t", "char", 17, 11),
        "raw": maker.field("raw", "bytes", 17, 4),
        "e": maker.field("e", "u32", 28, 4),
        "list": maker.field("list", "u8", 0, 4, array=True, count=4),
        "box": maker.field("box", "container", 0, 4),
        "s": maker.slot("s"),
    }
    maker.step("errno", src=ids["e"], dst=ids["s"])
    maker.filter(ids[field], op, value)
    return maker


def passes(field: str, op: str, value: str) -> bool:
    sample = struct.pack("<Ih2xd?11sI", 7, -5, 1.5, True, b"sh -c", 2)
    return pipeline(maker_of(field, op, value).text()).push("x", [sample]).events == 1


@pytest.mark.parametrize(
    ("field", "op", "value", "expected"),
    [
        ("u", "==", "7", True),
        ("u", "=", "7", True),
        ("u", "!=", "7", False),
        ("u", ">", "6", True),
        ("u", ">=", "8", False),
        ("u", "<", "8", True),
        ("u", "<=", "6", False),
        ("i", "==", "-5", True),
        ("i", "<", "0", True),
        ("f", ">", "1.25", True),
        ("f", "==", "1.5", True),
        ("b", "==", "true", True),
        ("b", "!=", "1", False),
        ("b", "==", "0", False),
        ("t", "==", "sh -c", True),
        ("t", "==", "sh", False),
        ("t", "<", "si", True),
        ("t", "~", "^sh", True),
        ("t", "~", "-c$", True),
        ("t", "!~", "bash", True),
        ("t", "~", "(?i)SH", True),
        ("s", "==", "ENOENT", True),
        ("s", "~", "^E(NO|X)", True),
        ("s", "!=", "ENOENT", False),
    ],
)
def test_semantics(field: str, op: str, value: str, expected: bool) -> None:
    assert passes(field, op, value) is expected


@pytest.mark.parametrize(
    ("field", "op", "value", "why"),
    [
        ("u", "==", "abc", "unsigned 32 bit"),
        ("u", "==", "-1", "unsigned 32 bit"),
        ("u", "==", "+1", "unsigned 32 bit"),
        ("u", "==", "4294967296", "unsigned 32 bit"),
        ("i", "==", "32768", "signed 16 bit"),
        ("i", "==", "", "signed 16 bit"),
        ("f", "<", "x", "a number"),
        ("b", "==", "maybe", "true, false"),
        ("b", ">", "true", "only equal or not"),
        ("t", "~", "(", "invalid regular expression"),
        ("t", "~", "(a{1000}){1000}", "invalid regular expression"),
        ("u", "~", "7", "only strings"),
        ("t", "=~", "x", "unknown operator"),
        ("raw", "==", "00", "cannot be compared"),
        ("list", "==", "1", "cannot be compared"),
        ("box", "==", "1", "cannot be compared"),
    ],
)
def test_refusals(field: str, op: str, value: str, why: str) -> None:
    with pytest.raises(CoreError, match=why) as failure:
        pipeline(maker_of(field, op, value).text())
    assert failure.value.kind == "plan"


def test_all_filters_must_hold() -> None:
    maker = maker_of("u", ">", "1")
    maker.filter(0, "<", "5")
    stream = pipeline(maker.text())
    samples = [struct.pack("<I", n) for n in range(10)]
    assert stream.push("x", samples).events == 3
    assert stream.counters()["x"]["discarded"] == 7


def test_text_filters_see_every_byte() -> None:
    maker = PlanMaker(4)
    maker.filter(maker.field("t", "char", 0, 4), "~", r"^\x1b")
    stream = pipeline(maker.text())
    assert stream.push("x", [b"\x1b[0m", b"\xff\xfe", b"abcd"]).events == 1


def test_no_byte_evades_a_pattern() -> None:
    """A byte that is no UTF-8 counts as one U+FFFD, as in the patterns' own language."""
    maker = PlanMaker(8)
    maker.filter(maker.field("t", "char", 0, 8), "~", "^evil.x\ufffd{2}$")
    stream = pipeline(maker.text())
    assert stream.push("x", [b"evil\xffx\xe2\x82", b"evil x\xff\xff", b"evil\xffx\xe2"]).events == 2


def test_floats_are_compared_in_their_width() -> None:
    maker = PlanMaker(4)
    maker.filter(maker.field("f", "f32", 0, 4), "==", "0.1")
    assert pipeline(maker.text()).push("x", [struct.pack("<f", 0.1)]).events == 1
