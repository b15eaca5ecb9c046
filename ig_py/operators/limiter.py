"""``--max-entries``: how many elements of an array are shown.

Facts: docs/reference/operators.md#limits.
"""

from __future__ import annotations

import re
from typing import ClassVar

from ig_py.errors import UsageError
from ig_py.gadget.param_values import split_by_datasource
from ig_py.gadget.spec import DataSourceType, ParamSpec
from ig_py.operators.base import Context, Operator, check_datasources_of

PREFIX = "operator.limiter."
KEY = "max-entries"
UNLIMITED = -1


def parse_limit(text: str) -> int | None:
    """A number of elements; None: no limit.

    Raises:
        UsageError: *text* is no such number.
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII) or int(text) < UNLIMITED:
        raise UsageError(f'--{KEY}: "{text}" is no number of elements (-1: no limit)')
    return None if int(text) == UNLIMITED else int(text)


class Limiter(Operator):
    name: ClassVar[str] = "limiter"
    priority: ClassVar[int] = 9600

    def instantiate(self, ctx: Context) -> bool:
        arrays = [ds for ds in ctx.spec.datasources if ds.type == DataSourceType.ARRAY]
        if not arrays:
            return False
        common, by_name = split_by_datasource(ctx.param(PREFIX + KEY), f"--{KEY}")
        check_datasources_of(ctx, PREFIX + KEY, by_name, arrays)
        for ds in arrays:
            limit = parse_limit(by_name.get(ds.name) or common or str(UNLIMITED))
            if limit is not None:
                ctx.plan.limits[ds.name] = limit
        ctx.spec.params.append(
            ParamSpec(
                key=KEY,
                prefix=PREFIX,
                default=str(UNLIMITED),
                title="Max Entries",
                description="Most elements of an array to show, for all or as "
                "DATASOURCE:NUMBER,… (-1: all)",
                type_hint="string",
            )
        )
        return True
