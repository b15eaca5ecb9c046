"""Untrusted YAML: values, lines, and everything that is refused."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ig_py import yamlsafe
from ig_py.errors import IgPyError, LimitError, MetadataError
from ig_py.gadget.metadata import scalar_text


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
        "zero": 15,
        "big": 1e20,
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
        (b"a: 1\nb: *y\n", "f:2: anchor 'y' is not defined before"),
        (b"a: *y\nb: &y 1\n", "f:1: anchor 'y' is not defined before"),
        (b"a: &y\n  b: *y\n", "f:2: anchor 'y' contains itself"),
        (b"a: &y [1, [*y]]\n", "f:1: anchor 'y' contains itself"),
        (b"a: &y\n  <<: *y\n", "f:2: anchor 'y' contains itself"),
        (b"a: &y\n  *y : 1\n", "f:2: anchor 'y' contains itself"),
        (b"a: &y [1]\n*y : 1\n", "f:2: a key must be a text"),
        (b"\na:\n  <<: 1\n", "f:3: a merge key takes a mapping or a list of mappings"),
        (b"a:\n  <<:\n", "f:2: a merge key takes a mapping or a list of mappings"),
        (b"a:\n  <<: [{b: 1}, 2]\n", "f:2: a merge key takes a mapping or a list of mappings"),
        (b"a:\n  <<: {b: 1}\n  <<: {c: 1}\n", "f:3: a second merge key"),
        (b"a:\n  b: 1\n  <<: {b: 2}\n  b: 3\n", "f:4: key 'b' occurs a second time"),
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


def test_aliases_repeat_what_they_name() -> None:
    document, lines = yamlsafe.load(
        b"a: &x\n  k: [1, two]\n  t: &t text\nb: *x\nc: [*x, *t]\n&key d: &x 2\ne: *x\n"
        b"*t : f\ng: *key\n",
        "f",
    )
    inner = {"k": [1, "two"], "t": "text"}
    assert document == {
        "a": inner, "b": inner, "c": [inner, "text"], "d": 2, "e": 2, "text": "f", "g": "d",
    }  # fmt: skip
    assert document["a"] is not document["b"], "each place may be changed by itself"
    assert (lines.line(["b"]), lines.line(["b", "k", 1])) == (4, 2)
    assert lines.line(["c", 0, "t"]) == 3


def test_merge_keys() -> None:
    document, lines = yamlsafe.load(
        b"one: &one {a: 1, b: 1, n: {x: 1}}\ntwo: &two {b: 2, c: 2}\n"
        b"m:\n  a: own\n  <<: *one\nfirst:\n  <<: [*two, *one]\n  a: own\n"
        b"inline:\n  <<: {z: 1}\nnested:\n  <<: {y: 2, <<: *two}\nquoted:\n  '<<': *two\n",
        "f",
    )
    assert document["m"] == {"a": "own", "b": 1, "n": {"x": 1}}
    assert document["first"] == {"a": "own", "b": 2, "c": 2, "n": {"x": 1}}
    assert document["inline"] == {"z": 1}
    assert document["nested"] == {"y": 2, "b": 2, "c": 2}
    assert document["quoted"] == {"<<": {"b": 2, "c": 2}}
    assert document["m"]["n"] is not document["one"]["n"]
    assert (lines.line(["m", "a"]), lines.line(["m", "n", "x"])) == (4, 1)
    assert lines.line(["first", "c"]) == 2


def test_an_anchor_of_one_document_is_none_of_the_next() -> None:
    with pytest.raises(MetadataError, match="f:3: anchor 'x' is not defined before"):
        yamlsafe.load_texts(b"a: &x 1\n---\nb: *x\n", "f")
    assert yamlsafe.load_texts(b"a: &x 1\nb: *x\n", "f")[0][0] == {"a": "1", "b": "1"}


def nested_lists(levels: int, each: int) -> bytes:
    """Each level repeats the one before: ``each ** levels`` nodes in a few lines."""
    lines = [b"l0: &l0 [" + b"x," * each + b"]"]
    lines += [b"l%d: &l%d [" % (n, n) + b"*l%d," % (n - 1) * each + b"]" for n in range(1, levels)]
    return b"\n".join(lines)


BOMBS = {
    "lists": nested_lists(9, 9),
    "two by two": nested_lists(40, 2),
    "mappings": b"l0: &l0 {a: 1, b: 2}\n"
    + b"\n".join(b"l%d: &l%d {a: *l%d, b: *l%d}" % (n, n, n - 1, n - 1) for n in range(1, 30)),
    "merges": b"l0: &l0 {" + b"".join(b"k%d: 1, " % n for n in range(200)) + b"}\n"
    + b"\n".join(b"m%d: {<<: *l0}" % n for n in range(200)),
    "a list of merges": b"l0: &l0 {a: 1, b: 2, c: 3}\nm: {<<: [" + b"*l0," * 9000 + b"]}",
    "text": b"t: &t " + b"x" * 100_000 + b"\na: [" + b"*t," * 100 + b"]",
    "text of keys": b"t: &t {" + b"x" * 1000 + b": 1}\na: [" + b"*t," * 2000 + b"]",
    "depth": b"l0: &l0 [x]\n"
    + b"\n".join(b"l%d: &l%d [*l%d]" % (n, n, n - 1) for n in range(1, 40)),
    "anchors": b"\n".join(b"- &a%d x" % n for n in range(300)),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    before = time.monotonic()
    with pytest.raises(LimitError, match=r"^f:[0-9]+: (more than|nested deeper than) [0-9]+"):
        yamlsafe.load(BOMBS[name], "f")
    assert time.monotonic() - before < 5


def test_what_aliases_may_become() -> None:
    many = b"a: &a [" + b"1," * 98 + b"]\nb: [" + b"*a," * 200 + b"]"
    document, _ = yamlsafe.load(many, "f")
    assert len(document["b"]) == 200 and len(document["b"][199]) == 98
    yamlsafe.load(b"\n".join(b"- &a%d x" % n for n in range(yamlsafe.MAX_ANCHORS)), "f")


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


@pytest.mark.parametrize(
    ("text", "read"),
    [
        # As Inspektor Gadget's configuration library (viper 1.21 with yaml.v3) reads and writes it.
        ("010", "8"),
        ("0o10", "8"),
        ("0O17", "15"),
        ("0x10", "16"),
        ("-0x10", "-16"),
        ("+010", "8"),
        ("-010", "-8"),
        ("0b11", "3"),
        ("-0o17", "-15"),
        ("1_000", "1000"),
        ("0x_1f", "31"),
        ("1__0", "10"),
        ("_1", "_1"),
        ("1:30", "1:30"),
        ("08", "8"),
        ("yes", "yes"),
        ("off", "off"),
        ("y", "y"),
        ("~", ""),
        ("Null", ""),
        (".inf", "+Inf"),
        ("-.INF", "-Inf"),
        (".nan", "NaN"),
        ("NaN", "NaN"),
        ("inf", "inf"),
        ("1e3", "1000"),
        ("1e21", "1000000000000000000000"),
        ("1e-7", "0.0000001"),
        ("1.8E+309", "1.8E+309"),
        ("1.", "1"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        (".5_0", "0.5"),
        ("1_0.5", "10.5"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709552000"),
        ("-9223372036854775809", "-9223372036854776000"),
        ("TRUE", "true"),
        ("tRUE", "tRUE"),
        ("'010'", "010"),
        ("0777", "511"),
        ("-0", "0"),
        ("+1", "1"),
        ("0.10", "0.1"),
        ("0x", "0x"),
        ("0o8", "0o8"),
        ("0b12", "0b12"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_as_texts(text: str, read: str) -> None:
    assert scalar_text(yamlsafe.load(f"k: {text}".encode(), "f")[0]["k"]) == read


def test_a_date_stays_as_it_is_written() -> None:
    document, _ = yamlsafe.load(b"k: 2001-01-01\nl: 2001-01-01T00:00:00Z", "f")
    assert document == {"k": "2001-01-01", "l": "2001-01-01T00:00:00Z"}
