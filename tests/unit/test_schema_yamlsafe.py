"""Untrusted YAML: values, lines, and everything that is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ig_py import yamlsafe
from ig_py.errors import IgPyError, LimitError, MetadataError


def test_values_are_typed_as_other_runners_type_them() -> None:
    document, _ = yamlsafe.load(
        b"t: true\nf: FALSE\nyes: yes\noff: off\nnone: ~\nempty:\nnull_: Null\n"
        b"i: -12\nhex: 0xff\noct: 0o17\nzero: 017\nbig: 99999999999999999999\n"
        b"x: 1.50\ne: 1e3\ndate: 2024-01-02\nsex: 1:30\nquoted: '1'\nfolded: >-\n  a\n  b\n"
        b"list: [1, two]\n",
        "f",
    )
    assert document == {
        "t": True,
        "f": False,
        "yes": "yes",
        "off": "off",
        "none": None,
        "empty": None,
        "null_": None,
        "i": -12,
        "hex": 255,
        "oct": 15,
        "zero": "017",
        "big": "99999999999999999999",
        "x": 1.5,
        "e": 1000.0,
        "date": "2024-01-02",
        "sex": "1:30",
        "quoted": "1",
        "folded": "a b",
        "list": [1, "two"],
    }


def test_keys_stay_text() -> None:
    assert yamlsafe.load(b"1: a\ntrue: b\n", "f")[0] == {"1": "a", "true": "b"}


@pytest.mark.parametrize("raw", [b"", b"# nothing\n", b"---\n", b"\xef\xbb\xbf"])
def test_an_empty_document_is_none(raw: bytes) -> None:
    assert yamlsafe.load(raw, "f")[0] is None


def test_lines() -> None:
    _, lines = yamlsafe.load(b"a: 1\nb:\n  c:\n  - x\n  - d: 1\n    e: 2\n", "dir/f.yaml")
    assert lines.line(["a"]) == 1
    assert lines.line(["b"]) == 2
    assert lines.line(["b", "c"]) == 3
    assert lines.line(["b", "c", 0]) == 4
    assert lines.line(["b", "c", 1, "e"]) == 6
    assert lines.line(["b", "c", 7, "nowhere"]) == 3
    assert lines.line([]) == 1
    assert lines.at(["b", "c"]) == "dir/f.yaml:3"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a: 1\nb: 2\na: 3\n", "f:3: key 'a' occurs a second time, first in line 1"),
        (b"x:\n  a: &y 1\n", "f:2: anchors and aliases are not accepted"),
        (b"&y a: 1\n", "f:1: anchors and aliases are not accepted"),
        (b"a: *y\n", "f:1: anchors and aliases are not accepted"),
        (b"\na:\n  <<: {b: 1}\n", "f:3: merge keys are not accepted"),
        (b"a: !!python/object:os.system x\n", "f:1: tags are not accepted"),
        (b"a: !!binary aGk=\n", "f:1: tags are not accepted"),
        (b"a: !!str 1\n", "f:1: tags are not accepted"),
        (b"a: 1\n---\nb: 2\n", "f:2: a second document"),
        (b"? [a, b]\n: 1\n", "f:1: a key must be a scalar"),
        (b"a: 1\nb: \xff\n", "f:2: not UTF-8"),
        (b"a: 1\nb: \x07\n", "f:2: control characters are not allowed"),
        (b"a: [1\nb: 2\n", "f:2: "),
        (b"a:\n\t- 1\n", "f:2: "),
    ],
)
def test_refused(raw: bytes, message: str) -> None:
    with pytest.raises(MetadataError) as failure:
        yamlsafe.load(raw, "f")
    assert str(failure.value).startswith(message)


@pytest.mark.parametrize(
    "raw",
    [
        b"a: " + b"x" * yamlsafe.MAX_BYTES,
        b"[" * 40 + b"]" * 40,
        b"{a: " * 40 + b"}" * 40,
        b"- " * 40 + b"x",
        b"[" + b"1," * yamlsafe.MAX_NODES + b"]",
    ],
)
def test_limits(raw: bytes) -> None:
    with pytest.raises(LimitError, match=r"^f"):
        yamlsafe.load(raw, "f")


def test_the_limits_themselves_are_accepted() -> None:
    yamlsafe.load(b"[" * yamlsafe.MAX_DEPTH + b"]" * yamlsafe.MAX_DEPTH, "f")
    yamlsafe.load(b"a: " + b"x" * (yamlsafe.MAX_BYTES - 3), "f")


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_value_or_an_error_of_ours(raw: bytes) -> None:
    try:
        yamlsafe.load(raw, "f")
    except IgPyError as e:
        assert str(e).startswith("f")


@given(st.text(alphabet="a:-[]{},&*!|>'\"%#?\n \t~<", max_size=80))
@settings(max_examples=500, deadline=None)
def test_any_syntax_is_a_value_or_an_error_of_ours(text: str) -> None:
    try:
        yamlsafe.load(text.encode(), "f")
    except IgPyError as e:
        assert str(e).startswith("f:")
