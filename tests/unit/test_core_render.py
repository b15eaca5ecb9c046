"""Columns, YAML and indented JSON of the core, against what users of the format know."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from support.core_plans import PlanMaker

from ig_py._core import CoreError, pipeline


def cell(text: bytes, width: int = 16, **more: Any) -> str:
    maker = PlanMaker(64)
    field = maker.field("t", "char", 0, 64)
    maker.mode("columns", columns=[{"field": field, "width": width} | more])
    row = pipeline(maker.text()).push("x", [text.ljust(64, b"\0")]).data.decode()
    assert row.endswith("\n")
    return row[:-1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"igtest", "igtest          "),
        (b'we"ird\ttab', r"we\"ird\ttab    "),
        (b"/tmp/\xff\xfe-\xc3\xa9", r"/tmp/\xff\xfe-é "),
        (b"a\\b", r"a\\b            "),
        (b"\x1b[31m", r"\x1b[31m        "),
        ("\u202egnp".encode(), r"\u202egnp       "),
        ("a\u200bb\u2066".encode(), r"a\u200bb\u2066  "),
        ("\u0085\u009b".encode(), r"\u0085\u009b    "),
        ("日本語".encode(), "日本語             "),
    ],
)
def test_cells_are_quoted(text: bytes, shown: str) -> None:
    assert cell(text) == shown


def test_alignment_and_ellipsis() -> None:
    assert cell(b"abc", 6, align="right") == "   abc"
    assert cell(b"abcdefgh", 5, ellipsis="end") == "abcd…"
    assert cell(b"abcdefgh", 5, ellipsis="start") == "…efgh"
    assert cell(b"abcdefgh", 5, ellipsis="middle") == "ab…gh"
    assert cell(b"abcdefgh", 4, ellipsis="middle") == "ab…h"
    assert cell(b"abcdefgh", 5, ellipsis="none") == "abcde"
    assert cell(b"abcdefgh", 5) == "abcde"
    assert cell(b"abcdefgh", 1, ellipsis="end") == "…"
    assert cell(b"abcdefgh", 0) == "" == cell(b"abcdefgh", -3)
    assert cell(b'a"b', 3, ellipsis="end") == r"a\…"


def test_rows_of_several_kinds() -> None:
    maker = PlanMaker(64)
    u, i = maker.field("u", "u64", 0, 8), maker.field("i", "i32", 8, 4)
    b, f = maker.field("b", "bool", 12, 1), maker.field("f", "f64", 16, 8)
    box, blob = maker.field("box", "container", 0, 64), maker.field("blob", "bytes", 0, 9)
    numbers = maker.field("list", "u32", 0, 12, array=True, count=3)
    columns = [
        {"field": u, "width": 20, "align": "right"},
        {"field": u, "width": 19, "hex": True},
        {"field": i, "width": 3},
        {"field": b, "width": 4},
        {"field": f, "width": 3},
        {"field": f, "width": 6, "precision": 2},
        {"field": box, "width": 10},
        {"field": blob, "width": 9},
        {"field": numbers, "width": 11},
    ]
    raw = struct.pack("<Qi?3xd", 2**64 - 1, -3, True, 2.5).ljust(64, b"\0")
    assert pipeline(maker.mode("columns", columns=columns).text()).push("x", [raw]).data == (
        b"18446744073709551615 0xFFFFFFFFFFFFFFFF  -3  true 2   2.50   "
        b"<64 bytes> <9 bytes> <12 bytes> \n"
    )


def test_columns_are_checked() -> None:
    maker = PlanMaker(4)
    maker.field("n", "u32", 0, 4)
    for column, why in (
        ({"field": 5, "width": 1}, "unknown field 5"),
        ({"field": 0, "width": 1 << 40}, "width"),
        ({"field": 0, "width": 4, "precision": 10**6}, "precision"),
        ({"field": 0, "width": 4, "align": "center"}, "center"),
        ({"field": 0}, "width"),
    ):
        with pytest.raises(CoreError, match=why):
            pipeline(maker.mode("columns", columns=[column]).text())


def open_event() -> PlanMaker:
    maker = PlanMaker(64)
    error = maker.field("error_raw", "u32", 0, 4)
    maker.field("fname", "char", 4, 20)
    mode = maker.field("mode_raw", "u32", 24, 4)
    k8s = maker.field("k8s", "container")
    owner = maker.field("owner", "container", parent=k8s)
    maker.slot("kind", owner)
    maker.slot("hostnetwork", k8s, "bool")
    maker.step("errno", src=error, dst=maker.slot("error"))
    maker.step("file_mode", src=mode, dst=maker.slot("mode"))
    return maker


OPEN = struct.pack("<I20sI", 0, b"/etc/ld.so.cache", 0)


def test_yaml_documents() -> None:
    stream = pipeline(open_event().mode("yaml").text())
    document = """\
---
error: ""
error_raw: 0
fname: /etc/ld.so.cache
k8s:
  hostnetwork: false
  owner:
    kind: ""
mode: '----------'
mode_raw: 0
"""
    assert stream.push("x", [OPEN, OPEN]).data.decode() == document * 2


def test_indented_json() -> None:
    maker = open_event()
    maker.field("list", "u8", 24, 2, array=True, count=2)
    maker.field("none", "u8", 24, 0, array=True, count=0)
    assert (
        pipeline(maker.mode("jsonpretty").text()).push("x", [OPEN]).data.decode()
        == """\
{
  "error": "",
  "error_raw": 0,
  "fname": "/etc/ld.so.cache",
  "k8s": {
    "hostnetwork": false,
    "owner": {
      "kind": ""
    }
  },
  "list": [
    0,
    0
  ],
  "mode": "----------",
  "mode_raw": 0,
  "none": []
}
"""
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "~", "null", "true", "No", "on", "y", "123", "1_0", "0x1f", "0o17", "017", "1e3",
        ".5", "-.inf", "0:00.150", "12:30:45", "2026-11-23", "2026-11-23T05:46:30.202146410Z",
        "----------", "- a", "-", "-x", "? a", "?", ": a", "a: b", "a:", "a:b", "a #b", "#a",
        "a#b", "[a]", "{a}", "*a", "&a", "!a", "|", ">", "%a", "@a", "`a", "'a'", '"a"', "it's",
        " a", "a ", "a  b", "a\tb", "a\nb", "a\n", "a\n\n", "\na", " a\nb", "a \nb", "a\n b",
        "\x1b[0m", "\x7f", "é\xa0x", "\u2028", "\ufeff", "😀", "<<", "---", "...", "--- a",
        "sh\xa0-c\xa0ls", "a\\b", "%", ",", "!", "0b11", "+1", "1.", "1.5.2", "10.0.0.1:80",
        "a\r\nb", "\x85", "=", "==",
    ],
)  # fmt: skip
def test_yaml_reads_back(text: str) -> None:
    import yaml

    maker = PlanMaker(64)
    box = maker.field("box", "container", 0, 64)
    maker.field("text", "char", 0, 64, box)
    maker.field("list", "char", 0, 64, box, array=True, count=1)
    maker.field("zero", "u8", 63, 1)
    raw = text.encode().ljust(64, b"\0")
    data = pipeline(maker.mode("yaml").text()).push("x", [raw]).data.decode()
    expected = {"box": {"text": text, "list": [text]}, "zero": 0}
    assert yaml.safe_load(data) == expected, data
    assert not any((ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 for c in data)


@pytest.mark.parametrize("mode", ["json", "jsonpretty"])
def test_json_on_a_terminal_hides_and_reorders_nothing(mode: str) -> None:
    hostile = "a\x7f\u0085\u009b\u200b\u202e\u2066\ufeff\U000e0001é日😀\x1b\n"

    def shown(**more: Any) -> str:
        maker = PlanMaker(64)
        maker.field("evil\u202e", "char", 0, 64)
        maker.mode(mode, **more)
        raw = hostile.encode().ljust(64, b"\0")
        return pipeline(maker.text()).push("x", [raw]).data.decode()

    exact, safe = shown(terminal=False), shown(terminal=True)
    assert json.loads(exact) == json.loads(safe) == {"evil\u202e": hostile}
    assert shown() == exact and "\x7f" in exact and "\u202e" in exact
    assert "é日😀" in safe and "\\udb40\\udc01" in safe
    assert not any(c == "\x7f" or "\x80" <= c < "\xa0" or c in "\u200b\u202e\u2066" for c in safe)
