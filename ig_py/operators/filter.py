"""``--filter``, ``--filter-expr``: conditions on events.

Facts: docs/reference/operators.md#filters.
"""

from __future__ import annotations

import logging
import re
from typing import Any, ClassVar

from ig_py.errors import UsageError
from ig_py.gadget.spec import DataSourceSpec, FieldSpec, Flag, Kind, ParamSpec
from ig_py.numbers import parse_float, parse_int
from ig_py.operators._regex import core_pattern
from ig_py.operators.base import Context, Operator

log = logging.getLogger(__name__)

MAX_RULES = 256
PREFIX = "operator.filter."
_OPERATOR_CHARS = "!~><="
_OPERATORS = {"=": "==", **{op: op for op in ("==", "!=", ">", ">=", "<", "<=", "~", "!~")}}
_BITS = {
    Kind.INT8: 8,
    Kind.INT16: 16,
    Kind.INT32: 32,
    Kind.INT64: 64,
    Kind.UINT8: 8,
    Kind.UINT16: 16,
    Kind.UINT32: 32,
    Kind.UINT64: 64,
}
_SIGNED = frozenset({Kind.INT8, Kind.INT16, Kind.INT32, Kind.INT64})
_TEXT = frozenset({Kind.STRING, Kind.CSTRING})
_DECIMAL = r"[+-]?[0-9]+"
_BOOLS = {"true": "true", "1": "true", "false": "false", "0": "false"}


def split_rules(text: str) -> list[str]:
    """Rules of a ``--filter`` value: at commas, ``\\,`` and ``\\\\`` escape, empty ones go.

    A backslash before anything else stays, for regular expressions.
    """
    rules, current, chars = [], "", iter(text)
    for char in chars:
        if char == "\\":
            following = next(chars, "")
            current += following if following in (",", "\\") and following else char + following
        elif char == ",":
            rules.append(current)
            current = ""
        else:
            current += char
    rules.append(current)
    return [r for r in rules if r]


def parse_rule(rule: str) -> tuple[str, str, str]:
    """(field, operator, value).

    Raises:
        UsageError: A part is missing, or the operator is unknown.
    """
    start = next((i for i, c in enumerate(rule) if c in _OPERATOR_CHARS), len(rule))
    end = start
    while end < len(rule) and rule[end] in _OPERATOR_CHARS:
        end += 1
    field, op, value = rule[:start], rule[start:end], rule[end:]
    if not field or not op or not value:
        raise UsageError(f"filter rule {rule!r} is incomplete", remedy="write FIELD OPERATOR VALUE")
    if op not in _OPERATORS:
        raise UsageError(
            f"filter rule {rule!r}: unknown operator {op!r}",
            remedy="one of == != > >= < <= ~ !~",
        )
    return field, _OPERATORS[op], value


def compile_rule(ds: DataSourceSpec, rule: str) -> dict[str, Any]:
    """A rule as the plan's filter (docs/plan.md).

    Raises:
        UsageError: The rule is malformed, its field does not exist, or the value does not fit it.
    """
    name, op, value = parse_rule(rule)
    field = ds.field(name)
    if field is None:
        raise UsageError(
            f"filter rule {rule!r}: data source {ds.name!r} has no field {name!r}",
            remedy="image inspect --show-datasources lists the fields",
        )

    def bad(why: str) -> UsageError:
        return UsageError(f"filter rule {rule!r}: field {field.full_name!r} {why}")

    if field.flags & Flag.EMPTY or field.kind in (Kind.INVALID, Kind.BYTES) or field.array:
        raise bad("has no value that can be compared")
    if op in ("~", "!~"):
        if field.kind not in _TEXT:
            raise bad("is no text: regular expressions do not apply")
        value = core_pattern(value, f"filter rule {rule!r}: ")
    if field.kind in _BITS:
        value = _integer(field, value, bad)
    elif field.kind == Kind.BOOL:
        if op not in ("==", "!="):
            raise bad("is true or false: only == and != apply")
        if value not in _BOOLS:
            raise bad(f"is true or false, not {value!r}")
        value = _BOOLS[value]
    elif field.kind in (Kind.FLOAT32, Kind.FLOAT64):
        try:
            value = repr(parse_float(value, 32 if field.kind == Kind.FLOAT32 else 64))
        except ValueError:
            raise bad(f"is a number, {value!r} is none") from None
        except OverflowError:
            raise bad(f"cannot hold a number as large as {value!r}") from None
    elif op not in ("~", "!~") and value != value.strip():
        log.warning("filter rule %r: the blanks around the value belong to it", rule)
    return {"field": field.index, "op": op, "value": value}


def _integer(field: FieldSpec, value: str, bad: Any) -> str:
    signed = field.kind in _SIGNED
    if (
        not re.fullmatch(_DECIMAL, value, re.ASCII)
        or len(value) > 24
        or (value[0] == "+" and not signed)
    ):
        raise bad(f"is an integer, {value!r} is none")
    number, bits = parse_int(value), _BITS[field.kind]
    low, high = (
        (-(1 << bits - 1), (1 << bits - 1) - 1)
        if signed
        else (
            0,
            (1 << bits) - 1,
        )
    )
    if not low <= number <= high:
        raise bad(f"holds {low} to {high}: {value} is out of range")
    return str(number)


class Filter(Operator):
    name: ClassVar[str] = "filter"
    priority: ClassVar[int] = 9000

    def instantiate(self, ctx: Context) -> bool:
        """Add the filters and conditions to the plan.

        Raises:
            UsageError: A rule or an expression is malformed, or there are too many rules.
        """
        sources = ctx.spec.datasources
        alone = len(sources) == 1
        for ds in sources:
            rules = [r for text in _given(ctx, "filter", ds, alone) for r in split_rules(text[1])]
            if len(rules) > MAX_RULES:
                raise UsageError(
                    f"more than {MAX_RULES} filter rules", remedy="use --filter-expr with and, or"
                )
            if rules:
                ctx.plan.filters[ds.name] = [compile_rule(ds, rule) for rule in rules]
            expressions = _given(ctx, "filter-expr", ds, alone)
            if expressions:
                from ig_py.operators._expression import condition

                ctx.plan.conditions[ds.name] = [
                    condition(ds, t, f"--{key}") for key, t in expressions
                ]
            ctx.spec.params += [
                _param(f"filter.{ds.name}", f"Rules that events of {ds.name} must meet: {_RULES}"),
                _param(f"filter-expr.{ds.name}", f"Condition that events of {ds.name} must meet"),
            ]
        if alone:
            ctx.spec.params += [
                _param("filter", f"Rules that events must meet, all of them: {_RULES}", "F"),
                _param("filter-expr", f"Condition that events must meet: {_EXAMPLE}", "E"),
            ]
        return bool(ctx.plan.filters or ctx.plan.conditions)


_RULES = "FIELD OP VALUE,…; OP is one of == != > >= < <= ~ !~"
_EXAMPLE = 'an expression such as proc.comm startsWith "ba" and proc.pid > 1'


def _given(ctx: Context, key: str, ds: DataSourceSpec, alone: bool) -> list[tuple[str, str]]:
    """(key, value) of the parameters of that *key* that apply to *ds*."""
    keys = [f"{key}.{ds.name}", *([key] if alone else [])]
    values = ((key, ctx.param(PREFIX + key)) for key in keys)
    return [(key, value) for key, value in values if value]


def _param(key: str, description: str, alias: str = "") -> ParamSpec:
    return ParamSpec(
        key=key,
        prefix=PREFIX,
        alias=alias,
        title="Filter",
        description=description,
        type_hint="string",
    )
