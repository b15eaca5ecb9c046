"""Regular expressions of filters mean what they mean in RE2; values are those of Go's regexp."""

from __future__ import annotations

import pytest
from support.core_plans import PlanMaker

from ig_py._core import pipeline
from ig_py.errors import UsageError
from ig_py.operators._regex import core_pattern


def matches(pattern: str, text: str) -> bool:
    maker = PlanMaker(16)
    field = maker.field("t", "char", 0, 16)
    maker.filter(field, "~", core_pattern(pattern))
    sample = text.encode().ljust(16, b"\0")
    return pipeline(maker.text()).push("x", [sample]).events == 1


@pytest.mark.parametrize(
    ("pattern", "those", "others"),
    [
        (r"^\d$", "5", "٣a"),
        (r"^\D$", "٣aé", "5"),
        (r"^\w$", "aZ_9", "éſα-"),
        (r"^\W$", "éα-", "a_9"),
        (r"^\s$", "\t\n ", "\u00a0\u2003\x0b"),
        (r"^\S$", "\u00a0x\x0b", "\t "),
        (r"^[\d_]$", "5_", "٣a"),
        (r"^[^\w]$", "é-", "a_"),
        (r"^[\W\d]$", "é5-", "a_"),
        (r"^[[a]$", "[a", "]b"),
        (r"^[]a]$", "]a", "[b"),
        (r"^[^]a]$", "[b", "]a"),
        (r"^[a&&b]$", "a&b", "c"),
        (r"^[a~~b]$", "a~b", "c"),
        (r"^[--/]$", "-./", ",a"),
        (r"^[a-]$", "a-", "b"),
        (r"^[\]\\]$", "]\\", "["),
        (r"^[\x41-\x43]$", "ABC", "D"),
        (r"^[\012\x20]$", "\n ", "0"),
        (r"^[[:digit:]é-ü]$", "5éü", "٣a"),
        (r"^[^\pL]$", "5-", "aé"),
        (r"^\<$", "<", "a"),
        (r"^\012$", "\n", "0"),
        (r"^\x{e9}$", "é", "e"),
        (r"^(?i)k$", "kK\u212a", "x"),
        (r"^{$", "{", "}"),
        (r"^\p{Greek}$", "α", "a"),
        (r"^\_$", "_", "a"),
    ],
)
def test_a_character(pattern: str, those: str, others: str) -> None:
    assert [matches(pattern, char) for char in those + others] == [True] * len(those) + [
        False
    ] * len(others)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"\Qa.b\E$", "xa.b", True),
        (r"\Qa.b\E$", "xacb", False),
        (r"\Q[x", "[x", True),
        (r"a{", "a{", True),
        (r"a{,2}", "a{,2}", True),
        (r"a{,2}", "aa", False),
        (r"^a{2}$", "aa", True),
        (r"^a{1,2}$", "aaa", False),
        (r"\bab\b", "é ab", True),
        (r"\bab\b", "éab", True),
        (r"\bab\b", "xab", False),
        (r"(?P<name>a)b", "ab", True),
        (r"(?<name>a)b", "ab", True),
        (r"(?s:^.$)", "\n", True),
        (r"^.$", "\n", False),
        (r"^a # b$", "a # b", True),
        ("", "anything", True),
    ],
)
def test_a_text(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        *("[", "[a", "a\\", r"\1", r"(a)\1", "(?=a)", "(?<=a)b", "(", "a)", "*", r"\y", r"[a-\d]"),
        *("[b-a]", "[[:nosuch:]]", "(?P<n>a)(?P<n>b)", r"\pX", r"(?z)a", "(a{1000}){1000}"),
    ],
)
def test_what_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError) as caught:
        core_pattern(pattern, "filter: ")
    said = str(caught.value)
    assert said.startswith(f'filter: invalid regular expression "{pattern}": ')
    assert "\n" not in said
