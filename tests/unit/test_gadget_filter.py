"""Rules of ``--filter``."""

from __future__ import annotations

from typing import Any

import pytest
from support.elf_writer import BOOL, SIGNED, BtfWriter
from support.gadget_objects import Members, spec_of, tracer_object

from ig_py.errors import UsageError
from ig_py.operators.base import Context
from ig_py.operators.filter import Filter, compile_rule, split_rules


def members(btf: BtfWriter) -> Members:
    char = btf.integer("char", 1, SIGNED)
    u32 = btf.integer("unsigned int", 4)
    return [
        ("comm", btf.array(char, 16), 0),
        ("pid", u32, 128),
        ("small", char, 160),
        ("on", btf.integer("_Bool", 1, BOOL), 168),
        ("ratio", btf.float("double", 8), 192),
        ("proc", btf.struct("p", 4, [("tid", u32, 0)]), 256),
        ("list", btf.array(u32, 2), 288),
    ]


def rules_of(text: str) -> list[dict[str, Any]]:
    ctx = Context(spec_of(tracer_object(members)), params={"operator.filter.filter": text})
    Filter().instantiate(ctx)
    return ctx.plan.filters.get("ds", [])


@pytest.mark.parametrize(
    ("rule", "field", "op", "value"),
    [
        ("comm==sh", 0, "==", "sh"),
        ("comm=sh", 0, "==", "sh"),
        ("comm!= sh", 0, "!=", " sh"),
        ("COMM~^s.*", 0, "~", "^s.*"),
        ("comm!~x", 0, "!~", "x"),
        ("pid>=10", 1, ">=", "10"),
        ("pid<007", 1, "<", "7"),
        ("small==-128", 2, "==", "-128"),
        ("on==true", 3, "==", "true"),
        ("on!=0", 3, "!=", "false"),
        ("ratio<1.5e3", 4, "<", "1500.0"),
        ("ratio>0x1p-2", 4, ">", "0.25"),
        ("on==1", 3, "==", "true"),
        ("proc.tid==1", 6, "==", "1"),
    ],
)
def test_rules(rule: str, field: int, op: str, value: str) -> None:
    assert rules_of(rule) == [{"field": field, "op": op, "value": value}]


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("comm", "incomplete"),
        ("comm==", "incomplete"),
        ("==x", "incomplete"),
        ("comm=~x", "unknown operator '=~'"),
        ("nosuch==1", "no field 'nosuch'"),
        ("comm ==x", "no field 'comm '"),
        ("pid==abc", "'abc' is none"),
        ("pid==-1", "out of range"),
        ("pid==+1", "is none"),
        ("on==T", "is true or false, not 'T'"),
        ("on==TRUE", "is true or false, not 'TRUE'"),
        ("pid==0x10", "is none"),
        ("pid==" + "9" * 30, "is none"),
        ("pid==4294967296", "out of range"),
        ("small==128", "out of range"),
        ("pid~1", "no text"),
        ("comm!~(", r'invalid regular expression "\(": unclosed group'),
        ("on==maybe", "is true or false"),
        ("on>true", "only == and !="),
        ("ratio==x", "is a number"),
        ("proc==x", "no value that can be compared"),
        ("list==1", "no value that can be compared"),
    ],
)
def test_wrong_rules_are_told(rule: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        rules_of(rule)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("", []),
        ("a==1", ["a==1"]),
        ("a==1,,b==2,", ["a==1", "b==2"]),
        (r"a==x\,y", ["a==x,y"]),
        (r"a~\d\\", ["a~\\d\\"]),
        ("a~x\\", ["a~x\\"]),
    ],
)
def test_rules_part_at_commas(text: str, rules: list[str]) -> None:
    assert split_rules(text) == rules


def test_both_flags_apply() -> None:
    ctx = Context(
        spec_of(tracer_object(members)),
        params={"operator.filter.filter": "pid==1", "operator.filter.filter.ds": "comm==sh"},
    )
    assert Filter().instantiate(ctx)
    assert [rule["field"] for rule in ctx.plan.filters["ds"]] == [0, 1]


def test_the_short_flag_exists_for_a_lone_data_source_only() -> None:
    def second(btf: BtfWriter, _: Any) -> None:
        btf.marker("gadget_tracer_other___events___event")

    spec = spec_of(tracer_object(members, declare=second))
    Filter().instantiate(Context(spec))
    assert [p.key for p in spec.params] == [
        "filter.ds",
        "filter-expr.ds",
        "filter.other",
        "filter-expr.other",
    ]


def test_too_many_rules() -> None:
    with pytest.raises(UsageError, match="more than"):
        rules_of(",".join(["pid==1"] * 300))


def test_hidden_fields_and_twins_can_be_compared() -> None:
    spec = spec_of(tracer_object(members))
    assert compile_rule(spec.datasources[0], "pid==1")["field"] == 1


def test_expressions_of_one_data_source_and_of_the_only_one() -> None:
    spec = spec_of(tracer_object(members))
    params = {
        "operator.filter.filter-expr": "pid == 1",
        "operator.filter.filter-expr.ds": "pid != 2",
        "operator.filter.filter": "pid==1",
    }
    context = Context(spec, params=params)
    assert Filter().instantiate(context)
    [named, lone] = context.plan.conditions["ds"]
    assert (named["op"], lone["op"]) == ("!=", "==")
    assert len(context.plan.filters["ds"]) == 1
    params["operator.filter.filter-expr.ds"] = "pid"
    with pytest.raises(UsageError, match=r"--filter-expr\.ds: expected bool"):
        Filter().instantiate(Context(spec_of(tracer_object(members)), params=params))


@pytest.mark.parametrize("text", ["1.8E+309", "-1e400"])
def test_a_number_too_large_for_the_field(text: str) -> None:
    with pytest.raises(UsageError, match="cannot hold a number as large as"):
        rules_of(f"ratio<{text}")


@pytest.mark.parametrize("rule", ["comm== sh", "comm!=sh ", "comm<\tsh"])
def test_blanks_around_a_value_belong_to_it_and_are_told(
    rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    (found,) = rules_of(rule)
    assert found["value"].strip() == "sh" != found["value"]
    assert "the blanks around the value belong to it" in caplog.text
    caplog.clear()
    rules_of("comm==sh,comm~ sh")
    assert caplog.text == ""
