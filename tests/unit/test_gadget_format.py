"""What test.yaml may say, and what its expectations mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import features
from support.gadget_format import BadTest, discover, filled, matches, read


def entries(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "some_gadget" / "test.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return read(path)


def test_every_test_of_ours_is_understood() -> None:
    tests = discover()
    assert len({test.id for test in tests}) == len(tests) > 0
    known = set(features.names())
    for test in tests:
        assert set(test.needs) | set(test.lacks) <= known, test.id


def test_a_whole_test(tmp_path: Path) -> None:
    (test,) = entries(
        tmp_path,
        "needs: [uprobe]\n"
        "tests:\n"
        "- name: a b\n"
        "  needs: [kprobe]\n"
        "  params: {host: false, pid: 7}\n"
        "  background: [sleep, 9]\n"
        "  workload: [[true], {python: 'print(1)'}]\n"
        "  expect: {ds: {x: 1}}\n",
    )
    assert test.id == "some_gadget-a_b"
    assert test.needs == ("uprobe", "kprobe")
    assert test.params == {"host": "false", "pid": "7"}
    assert test.workload == (("True",), ("{python}", "-c", "print(1)"))
    assert test.expect == {"ds": [{"x": 1}]}


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "tests: {}",
        "tests: []\nother: 1",
        "tests: [{}]",
        "tests: [{name: a}]",
        "tests: [{name: a, says: x, typo: 1}]",
        "tests: [{name: a, says: x, workload: cat}]",
        "tests: [{name: a, expect: {ds: [1]}}]",
        "tests: [{name: a, says: x}, {name: a, says: y}]",
    ],
)
def test_unknown_keys_are_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadTest):
        entries(tmp_path, text)


@pytest.mark.parametrize(
    ("wanted", "found", "holds"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": {"b": "x"}}, {"a": {"b": "x", "c": 1}}, True),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, False),
        ([1, 2], [1, 2], True),
        ([1], [1, 2], False),
        ({"a": {"$min": 1, "$max": 3}}, {"a": 3}, True),
        ({"a": {"$min": 1, "$max": 3}}, {"a": 4}, False),
        ({"a": {"$min": 1}}, {"a": "x"}, False),
        ({"a": {"$re": "li.*"}}, {"a": "libc"}, True),
        ({"a": {"$re": "li"}}, {"a": "libc"}, False),
        ({"a": {"$any": True}}, {"a": None}, True),
        ({"a": {"$any": True}}, {}, False),
    ],
)
def test_matching(wanted: Any, found: Any, holds: bool) -> None:
    assert matches(wanted, found) is holds


def test_places() -> None:
    places = {"pid": "12", "dir": "/tmp/x"}
    assert filled({"pid": "{pid}", "path": ["{dir}/{pid}", 3]}, places) == {
        "pid": 12,
        "path": ["/tmp/x/12", 3],
    }
