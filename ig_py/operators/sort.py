"""``--sort``: the order of an array's elements (docs/reference/operators.md#sorting)."""

from __future__ import annotations

from typing import Any, ClassVar

from ig_py.errors import UsageError
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, Flag, Kind, ParamSpec
from ig_py.operators.base import Context, Operator, check_datasources_of

PREFIX = "operator.sort."
MAX_FIELDS = 64


def split_rules(text: str) -> tuple[str, dict[str, str]]:
    """``RULES`` or ``ds:RULES[;ds2:RULES]`` → (rules of all, rules by data source).

    The rules of a data source that is named twice are joined, as in ``ig``.

    Raises:
        UsageError: Both forms are mixed, or a data source or its rules are missing.
    """
    common: list[str] = []
    by_name: dict[str, list[str]] = {}
    for part in (part.strip() for part in text.split(";")):
        name, colon, rules = (word.strip() for word in part.partition(":"))
        if colon and (not name or not rules):
            missing = "rules" if name else "data source"
            raise UsageError(
                f'--sort: "{part}" has no {missing}', remedy="write DATASOURCE:FIELD,-FIELD;…"
            )
        if colon:
            by_name.setdefault(name, []).append(rules)
        elif part:
            common.append(part)
    if common and by_name:
        raise UsageError(
            "--sort: rules with and without a data source are mixed",
            remedy="name the data source of each, or of none",
        )
    return ",".join(common), {name: ",".join(rules) for name, rules in by_name.items()}


def sort_keys(ds: DataSourceSpec, rules: str) -> list[dict[str, Any]]:
    """``a,-b`` as the plan's ``sort``; ``-`` for descending.

    Raises:
        UsageError: A field does not exist or has no order, or there are too many.
    """
    keys = []
    for rule in (part.strip() for part in rules.split(",")):
        if not rule:
            continue
        name = rule.removeprefix("-")
        field = ds.field(name)
        if field is None:
            raise UsageError(
                f'--sort: data source "{ds.name}" has no field "{name}"',
                remedy="image inspect --show-datasources lists the fields",
            )
        if field.array or field.flags & Flag.EMPTY or field.kind in (Kind.INVALID, Kind.BYTES):
            raise UsageError(f'--sort: field "{field.full_name}" has no value that has an order')
        keys.append({"field": field.index, "descending": rule.startswith("-")})
    if len(keys) > MAX_FIELDS:
        raise UsageError(f"--sort: more than {MAX_FIELDS} fields")
    return keys


class Sort(Operator):
    name: ClassVar[str] = "sort"
    priority: ClassVar[int] = 9500

    def instantiate(self, ctx: Context) -> bool:
        arrays = [ds for ds in ctx.spec.datasources if ds.type == DataSourceType.ARRAY]
        if not arrays:
            return False
        common, by_name = split_rules(ctx.param(PREFIX + "sort"))
        check_datasources_of(ctx, PREFIX + "sort", by_name, arrays)
        for ds in arrays:
            if keys := sort_keys(ds, by_name.get(ds.name, common)):
                ctx.plan.sorts[ds.name] = keys
        ctx.spec.params.append(
            ParamSpec(
                key="sort",
                prefix=PREFIX,
                title="Sort by",
                description="Order of the elements of an array: FIELD,-FIELD,… (- for "
                "descending), for all or as DATASOURCE:FIELD,…;…",
                type_hint="string",
            )
        )
        return True
