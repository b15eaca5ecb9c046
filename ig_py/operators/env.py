"""``env``: fields with environment variables of ig-py's own.

Facts: docs/reference/operators.md#environment-variables.

Annotation ``env.fields.NAME: VARIABLE`` of a data source. The author of the image asks for a
variable; the user who runs it allows it (``--env-vars``).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, ClassVar

from ig_py.errors import MetadataError, UsageError
from ig_py.gadget.datasource import add_field
from ig_py.gadget.param_values import split_list
from ig_py.gadget.spec import Kind, ParamSpec
from ig_py.operators.base import Context, Operator

if TYPE_CHECKING:
    from ig_py.operators.parts import LoadParts
    from ig_py.operators.running import Host

PREFIX = "operator.env."
ALLOWED = "env-vars"
ANNOTATION = "env.fields."
STEP_PRIORITY = 0

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class Env(Operator):
    name: ClassVar[str] = "env"
    # After the operators that add fields from the event itself.
    priority: ClassVar[int] = 1000

    def __init__(self) -> None:
        self._refused: list[tuple[str, str]] = []
        self._allowed: list[str] = []

    @classmethod
    def global_params(cls) -> list[ParamSpec]:
        return [
            ParamSpec(
                key=ALLOWED,
                prefix=PREFIX,
                title="Environment variables",
                description="Environment variables that a gadget may show, where it asks for them",
                type_hint="[]string",
            )
        ]

    def instantiate(self, ctx: Context) -> bool:
        """Add the fields.

        Raises:
            MetadataError: A field's name is malformed or taken.
        """
        self._allowed = split_list(ctx.param(PREFIX + ALLOWED))
        active = False
        for ds in ctx.spec.datasources:
            for key, variable in list(ds.annotations.items()):
                if not key.startswith(ANNOTATION):
                    continue
                name = key.removeprefix(ANNOTATION)
                if not _NAME.match(name):
                    raise MetadataError(
                        f"data source {ds.name!r}: annotation {key!a} names no field",
                        remedy="give a name of letters, digits, _ and -",
                    )
                field = add_field(ds, name, Kind.STRING)
                active = True
                if variable in self._allowed:
                    value = os.environb.get(os.fsencode(variable), b"").decode("utf-8", "replace")
                    ctx.plan.add_step(
                        ds.name, STEP_PRIORITY, op="text", dst=field.index, value=value
                    )
                else:
                    self._refused.append((f"data source {ds.name!r}: field {name!r}", variable))
        return active

    def pre_start(self, ctx: Context, load: LoadParts, host: Host) -> None:
        """Check that the user allows every variable.

        Raises:
            UsageError: A variable is not in ``--env-vars``.
        """
        for what, variable in self._refused:
            raise UsageError(
                f"{what} would show the environment variable {variable!a}, which is not allowed",
                remedy=f"allow it: --{ALLOWED}={','.join([*self._allowed, variable])}",
            )
