"""``--jsonpath``."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ig_py.errors import IgPyError, LimitError, UsageError
from ig_py.inspect.jsonpath import evaluate

DOCUMENT: Any = {
    "name": "x",
    "list": [{"Name": "a", "Type": "Hash", "n": 1}, {"Name": "b", "Type": "Array", "n": 5}],
    "a.b": {"c": 1},
    "deep": {"deep": {"Name": "c"}},
    "none": None,
    "7": "seven",
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", DOCUMENT),
        (".name", "x"),
        ("['name']", "x"),
        ('["a.b"].c', 1),
        (".7", "seven"),
        ("[7]", "seven"),
        (".none", None),
        (".list[0].Name", "a"),
        (".list[-1].Name", "b"),
        (".list[*].Name", ["a", "b"]),
        (".list.*.n", [1, 5]),
        (".list[0:1]", [DOCUMENT["list"][0]]),
        (".list[::2].n", [1]),
        (".list[1,0].n", [5, 1]),
        (".list[0]['n','Name']", [1, "a"]),
        ("..Name", ["a", "b", "c"]),
        (".deep..Name", ["c"]),
        (".list[?(@.Type == 'Hash')].Name", ["a"]),
        (".list[?(@.n>1 && @.n < 9)].Name", ["b"]),
        (".list[?(@.n==1 || @.Name=='b')].Name", ["a", "b"]),
        (".list[?(@.n)].n", [1, 5]),
        (".list[?(!@.missing)].n", [1, 5]),
        (".list[?(@.n < 'x')]", []),
        (".list[5,0].n", [1]),
        ("..none", [None]),
    ],
)
def test_paths(path: str, value: Any) -> None:
    assert evaluate(DOCUMENT, path) == value


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (".missing", 'resolving path ".missing": unknown key missing'),
        (".list[9]", "unknown key 9"),
        (".list.Name", "unknown key Name"),
        (".name.x", "unknown key x"),
        ("name", "expected . or"),
        (".", "expected a name"),
        (".list[", "expected a quoted name"),
        (".list[0", "expected ]"),
        (".list[1.5]", "expected a quoted name"),
        (".list[?(x)]", "expected @"),
        (".list[?(@.n == )]", "expected a text"),
        (".list[::0]", "step 0"),
    ],
)
def test_wrong_paths_are_told(path: str, why: str) -> None:
    with pytest.raises(UsageError, match=why.replace("[", r"\[")):
        evaluate(DOCUMENT, path)


def test_limits() -> None:
    with pytest.raises(LimitError, match="characters"):
        evaluate(DOCUMENT, ".x" * 5000)
    with pytest.raises(LimitError, match="steps"):
        evaluate(DOCUMENT, "..*" * 100)
    wide = [[[0] * 100] * 100] * 100
    with pytest.raises(LimitError, match="results"):
        evaluate(wide, ".*.*.*")


@settings(max_examples=400, deadline=None)
@given(st.text(".[]'\"*?(@)=!<>&|:,-0123abN ", max_size=24))
def test_random_paths_only_raise_our_errors(path: str) -> None:
    with contextlib.suppress(IgPyError):
        evaluate(DOCUMENT, path)


@pytest.mark.parametrize(
    "path",
    [
        "..[?(@..x)]",
        "[*][?(@..[?(@..x)])]",
        "[*][?(" + "@..x || " * 60 + "@..x)]",
        "[*][?(" + "@['a','b','c'] || " * 200 + "@.x)]",
        "[*][?(" + "@[9:] || " * 400 + "@.x)]",
    ],
)
def test_work_has_a_limit(path: str) -> None:
    document: Any = [{"n": [[i] * 3]} for i in range(200_000)]
    if "||" not in path:
        chain: Any = 1
        for _ in range(50):
            chain = {"n": chain}
        document = [chain] * 2000
    begin = time.process_time()
    with pytest.raises(LimitError, match="looks at more than"):
        evaluate(document, path)
    assert time.process_time() - begin < 20


def test_a_large_document_is_below_the_limit() -> None:
    document = {"rows": [{"a": {"b": i}} for i in range(50_000)]}
    assert len(evaluate(document, "..b")) == 50_000
    assert len(evaluate(document, ".rows[?(@.a.b < 10)]")) == 10
