"""``--filter-expr``: which events meet an expression, and which texts are no expression."""

from __future__ import annotations

import contextlib
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.core_plans import PlanMaker

from ig_py._core import CoreError, pipeline
from ig_py.errors import UsageError
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, FieldSpec, Flag, Kind
from ig_py.operators._expression import MAX_DEPTH, MAX_LENGTH, condition

SAMPLE = struct.Struct("=IqdQ?16s16s")
VALUES = (42, -5, 1.5, (1 << 64) - 1, True, b"bash", b"10.1.2.3")
FIELDS = [
    ("pid", Kind.UINT32, "u32", 4),
    ("ret", Kind.INT64, "i64", 8),
    ("load", Kind.FLOAT64, "f64", 8),
    ("big", Kind.UINT64, "u64", 8),
    ("ok", Kind.BOOL, "bool", 1),
    ("comm", Kind.STRING, "char", 16),
    ("Addr", Kind.STRING, "char", 16),
]


def source() -> DataSourceSpec:
    fields = [FieldSpec(n, n, i, kind) for i, (n, kind, _, _) in enumerate(FIELDS)]
    fields += [
        FieldSpec("proc", "proc", 7, Kind.INVALID, flags=Flag.EMPTY),
        FieldSpec("comm", "proc.comm", 5, Kind.STRING),
        FieldSpec("raw", "raw", 9, Kind.BYTES),
        FieldSpec("list", "list", 10, Kind.UINT32, array=True),
    ]
    return DataSourceSpec("x", DataSourceType.SINGLE, fields=fields)


def met(text: str, values: tuple[object, ...] = VALUES) -> bool | None:
    """None: not to be decided."""
    maker, offset = PlanMaker(SAMPLE.size), 0
    for name, _, kind, size in FIELDS:
        maker.field(name, kind, offset, size)
        offset += size
    maker.datasource["conditions"] = [condition(source(), text, "--filter-expr")]
    stream = pipeline(maker.text())
    found = stream.push("x", [SAMPLE.pack(*values)]).events == 1
    counters = stream.counters()["x"]
    assert counters["received"] == counters["emitted"] + counters["discarded"] == 1
    return None if stream.undecided() else found


TRUE = """
true
not false
!false
!!ok
ok == true
ok and pid == 42
pid == 42 && ok
pid == 1 or pid == 42
pid == 1 || pid == 2 || pid == 42
pid != 41
pid > 41 and pid >= 42 and pid < 43 and pid <= 42
PID == 42
addr == "10.1.2.3"
proc.comm == 'bash'
ret == -5
-ret == 5
+ret < 0
-2 ** 2 == -4
2 ** 3 ** 2 == 512
2 ^ 10 == 1024
big == 18446744073709551615
big > ret
big + 1 > big
load == 1.5
load * 2 == 3
pid / 4 == 10.5
pid % 10 == 2
ret % 3 == -2
1 + 2 * 3 == 7
(1 + 2) * 3 == 9
10 - 2 - 3 == 5
1_000 == 1000 and 0xff == 255 and 0b101 == 5 and 0o17 == 15 and .5 == 0.5 and 1e3 == 1000
pid in [1, 42]
pid not in [1, 2]
not (pid in [1, 2])
load in [1, 1.5]
comm in ["sh", "bash"]
pid in 1..42
pid not in 1..41
pid in 40 + 1..pid
comm matches "^ba.h$"
comm not matches "^sh"
comm contains "as"
comm not contains "x"
comm startsWith "ba" and comm endsWith "sh"
comm < "c" and comm > "a"
comm + "x" == "bashx"
"a" + "b" == `ab`
"\\x41\\u00e9\\"" == `A\u00e9"`
len(comm) == 4
len("h\u00e9llo") == 5
len([1, 2]) == 2
upper(comm) == "BASH" and lower("BASH") == comm
upper("stra\u00dfe") == "STRA\u00dfE"
trim("  x ") == "x" and trim("__x_", "_") == "x"
trimPrefix(comm, "ba") == "sh" and trimSuffix(comm, "sh") == "ba" and trimPrefix(comm, "x") == comm
hasPrefix(comm, "ba") and hasSuffix(comm, "sh")
indexOf(comm, "s") == 2 and indexOf(comm, "x") == -1 and lastIndexOf("abab", "ab") == 2
abs(ret) == 5 and abs(-1.5) == load
ceil(load) == 2 and floor(load) == 1 and round(load) == 2 and round(-2.5) == -3
int("42") == pid and int(load) == 1 and float("1.5") == load and float(pid) == 42
string(pid) == "42" and string(ok) == "true"
max(1, pid, 3) == 42 and min(1, load, 3) == 1 and max([1, pid]) == 42
bitshl(1, 64) == 0 and bitshr(-1, 99) == -1 and bitushr(-1, 64) == 0
bitand(pid, 2) == 2 and bitor(1, 2) == 3 and bitxor(3, 1) == 2 and bitnand(3, 1) == 2
bitnot(0) == -1 and bitshl(1, 4) == 16 and bitshr(-16, 2) == -4 and bitushr(-1, 63) == 1
addr in cidr("10.0.0.0/8")
addr not in cidr("192.168.0.0/16", "::/0")
CidrMatches(addr, cidr("10.1.2.3/32", "fe80::/10"))
"::ffff:10.1.2.3" in cidr("10.0.0.0/8")
addr in cidr("::ffff:10.0.0.0/104") and addr not in cidr("::ffff:11.0.0.0/104")
"fe80::1" in cidr("fe80::/10") and "fe80::1" not in cidr("fe80::2/128")
"no address" not in cidr("0.0.0.0/0", "::/0")
any([1, 42], # == pid)
all([1, 2], {# < pid})
none(["sh", "zsh"], comm == #)
one([1, 2, 3], # % 2 == 0)
any([1, 2], any([3, 4], # == 4))
any([[1], [2, 3]], len(#) == 2)
comm | upper() == "BASH"
comm | trimPrefix("ba") | upper() == "SH"
pid == 42 ? ok : false
(pid == 1 ? "a" : comm) == "bash"
pid == 1 ? false : pid == 2 ? false : true
pid not in []
""".strip()


@pytest.mark.parametrize("text", TRUE.splitlines())
def test_conditions_that_are_met(text: str) -> None:
    assert met(text) is True
    assert met(f"not ({text})") is False


@pytest.mark.parametrize(
    "text",
    [
        "pid % 0 == 1",
        "int(comm) == 1",
        'float("x") == 1',
        "bitshl(1, -1) == 0",
        "any([1], # % 0 == 1)",
        "big * big * big * big == 1",
    ],
)
def test_events_without_a_value_are_counted(text: str) -> None:
    assert met(text) is None


@pytest.mark.parametrize("text", ["true or pid % 0 == 1", "not (false and int(comm) == 1)"])
def test_decided_conditions_are_not_evaluated(text: str) -> None:
    assert met(text) is True


def test_numbers_that_are_none_compare_as_none() -> None:
    assert met("load / 0 > 1") is True
    for text in ("0 / 0 == 0 / 0", "0 / 0 < 1", "0 / 0 > 1"):
        assert met(text) is False
    assert met("0 / 0 != 0 / 0") is True


def test_text_that_is_no_text() -> None:
    values = (*VALUES[:5], b"a\xffb", b"")
    assert met("len(comm) == 3", values)
    assert met('comm matches "^a.b$"', values)
    assert met('comm contains "b" and comm startsWith "a"', values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "unexpected 'end'"),
        ("comm ==", r"unexpected 'end' \(character 8 of 'comm =='\)"),
        ("nosuch == 1", r"unknown name nosuch \(character 1"),
        ("proc.nosuch == 1", "unknown name proc.nosuch"),
        ("pid", "expected bool, but got int"),
        ("comm == 3", r"string == int is no operation \(character 6"),
        ("pid == '3'", "int == string"),
        ("ok == 1", "bool == int"),
        ("ok > false", "bool > bool"),
        ("pid and ok", "int and bool"),
        ("not pid == 1", "expected bool, but got int"),
        ("-comm == 1", "-string"),
        ("load % 2 == 1", "float % int"),
        ("comm - 'x' == 'y'", "string - string"),
        ("pid in comm", "int in string"),
        ("pid in ['a']", "int in a list of string"),
        ("comm in 1..2", "string in range"),
        ("pid in cidr('10.0.0.0/8')", "int in networks"),
        ("addr == cidr('10.0.0.0/8')", "string == networks"),
        ("cidr('10.0.0.0/8')", "expected bool, but got networks"),
        ("1..2", "expected bool, but got range"),
        ("any(1..3, # == 1)", "range is no list"),
        ("addr in cidr('foo')", "'foo' is no network"),
        ("addr in cidr('10.0.0.1')", "no prefix length"),
        ("addr in cidr(comm)", "a text in quotes is expected"),
        ("addr in cidr()", "cidr"),
        ("CidrMatches(addr)", "CidrMatches"),
        ("comm matches comm", "a text in quotes is expected"),
        ("proc == 1", "proc has no value"),
        ("raw == 1", "raw has no value"),
        ("list == 1", "list has no value"),
        ("nosuch()", "there is no function nosuch; there are"),
        ("len(pid) == 1", r"len\(int\) is no call"),
        ("len() == 1", r"len\(\) is no call"),
        ("max('a') == 1", "is no call"),
        ("max([]) == 1", "is no call"),
        ("any([1]) == true", "any"),
        ("all(pid, true)", "int is no list"),
        ("# == 1", "# is the element"),
        ("[1, 'a'] == 1", "a list of different types"),
        ("pid == 1 ? 1 : 'a'", "int or string"),
        ("pid ? true : false", "expected bool, but got int"),
        ("true ? true", "instead of ':'"),
        ("(true", r"instead of '\)'"),
        ("true)", r"unexpected '\)'"),
        ("true true", "unexpected 'true'"),
        ("comm | pid", "a function is expected"),
        ("comm == nil", "nil is not supported"),
        ("comm ?? 'x' == 'x'", r"\?\? is not supported"),
        ("comm[0] == 'x'", r"\[ is not supported"),
        ("comm. == 'x'", "after a point"),
        ("comm == 'x", "unexpected"),
        ("comm == '\\q'", "escape"),
        ("comm == '\\ud800'", "escape"),
        ("pid == 18446744073709551616", "more than 64 bits"),
        ("load == 1e999", "that large"),
        ("pid = 1", "unexpected '='"),
        ('comm matches "("', r'regular expression "\(": unclosed group \(character 14'),
        ("pid == \x1b", r"unexpected '\\x1b'"),
        ("(" * (MAX_DEPTH + 1), "nested over"),
        ("1" + "+1" * MAX_DEPTH + " == 1", "nested over"),
        ("!" * 2000 + "ok", "nested over"),
        (" " * (MAX_LENGTH + 1), "longer than"),
    ],
)
def test_expressions_that_are_no_condition(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        condition(source(), text, "--filter-expr")
    assert "\x1b" not in str(raised.value)


def test_many_alternatives_are_no_depth() -> None:
    assert met(" or ".join(["pid == 1"] * 200 + ["ok"])) is True


@given(st.text(max_size=30))
def test_any_text_is_an_expression_or_none(text: str) -> None:
    with contextlib.suppress(UsageError):
        condition(source(), text, "--filter-expr")


_INTS = st.integers(-50, 50)
_LEAVES = st.one_of(_INTS.map(lambda n: f"({n})"), st.just("pid"), st.just("ret"))
_NUMBERS = st.recursive(
    _LEAVES,
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(" ".join).map("({})".format),
    max_leaves=6,
)
_TESTS = st.tuples(_NUMBERS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), _NUMBERS).map(
    " ".join
)
_CONDITIONS = st.recursive(
    _TESTS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join).map("({})".format),
        inner.map("not ({})".format),
    ),
    max_leaves=6,
)


@settings(max_examples=200)
@given(_CONDITIONS)
def test_whole_numbers_as_python_has_them(text: str) -> None:
    assert met(text) is bool(eval(text, {"pid": 42, "ret": -5}))


@pytest.mark.parametrize(
    "node",
    [
        {"op": "nosuch"},
        {"op": "field"},
        {"op": "field", "field": 99},
        {"op": "value"},
        {"op": "not"},
        {"op": "==", "args": [{"op": "value", "value": 1}]},
        {"op": "len"},
        {"op": "matches", "args": [{"op": "value", "value": "x"}]},
        {"op": "matches", "args": [{"op": "value", "value": "x"}], "value": "("},
        {"op": "networks", "args": [{"op": "value", "value": "x"}], "value": ["10.0.0.0/33"]},
        {"op": "value", "value": 1, "more": 1},
        {"op": "list", "args": [{"op": "value", "value": 1}] * 5000},
    ],
)
def test_plans_that_do_not_fit(node: dict[str, object]) -> None:
    maker = PlanMaker(8)
    maker.field("a", "u64", 0, 8)
    maker.datasource["conditions"] = [node]
    with pytest.raises(CoreError) as raised:
        pipeline(json.dumps(maker.document))
    assert raised.value.kind == "plan"


def test_a_condition_of_the_wrong_type_is_undecided() -> None:
    maker = PlanMaker(8)
    maker.field("a", "u64", 0, 8)
    maker.datasource["conditions"] = [{"op": "field", "field": 0}]
    stream = pipeline(maker.text())
    assert stream.push("x", [bytes(8)]).events == 0
    assert stream.undecided() == 1
