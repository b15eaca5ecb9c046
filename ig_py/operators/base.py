"""What an operator is: a stage that declares fields and native steps, and may act at run time.

Order of life: ``instantiate`` (ascending priority, then name) → ``pre_start`` → ``start`` → … →
``pre_stop`` (descending) → ``drained`` (ascending) → ``stop`` (descending). Steps are sorted
by their own priority, stable (docs/reference/operators.md#order). Each hook is given what exists by
then:

- :class:`Context`: the gadget as it is declared. Instantiation is pure: it works on any machine,
  also for ``image inspect``;
- :class:`~ig_py.operators.parts.LoadParts` and :class:`~ig_py.operators.running.Host`, while the
  gadget is loaded;
- :class:`~ig_py.operators.running.Running`, once its stream is open.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from ig_py.errors import UsageError
from ig_py.gadget.metadata import scalar_text
from ig_py.gadget.param_values import unknown_datasource
from ig_py.gadget.spec import DataSourceSpec, GadgetSpec, ParamSpec
from ig_py.numbers import BOOLS_HINT, parse_bool
from ig_py.operators.parts import PlanParts
from ig_py.records import dataclass, field

if TYPE_CHECKING:
    from ig_py.operators.parts import LoadParts
    from ig_py.operators.running import Host, Running

log = logging.getLogger(__name__)


@dataclass
class Context:
    """One gadget, with values for its parameters, while operators are instantiated on it.

    Attributes:
        spec: What the gadget is; operators add data sources, fields and parameters.
        params: Values as text, by full parameter name (``operator.LocalManager.host``).
        image: What the gadget is run as.
        wasm: The gadget's wasm module; None for a gadget without one.
        inspected: The gadget is only looked at: a module that fails is a note.
        plan: The operators' share of the plan.
    """

    spec: GadgetSpec
    params: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    wasm: bytes | None = field(default=None, repr=False)
    inspected: bool = False
    plan: PlanParts = field(default_factory=PlanParts)

    def param(self, full_name: str, default: str = "") -> str:
        """Value of a parameter as text; *default* when it has none."""
        return self.params.get(full_name, default)

    def switch(self, full_name: str) -> bool:
        """Value of a boolean parameter; False when it has none.

        Raises:
            UsageError: It is no boolean.
        """
        text = self.param(full_name)
        try:
            return bool(text) and parse_bool(text)
        except ValueError:
            key = full_name.rpartition(".")[2]
            raise UsageError(f'--{key}: "{text}": {BOOLS_HINT}') from None

    def is_from_gadget(self, full_name: str) -> bool:
        """Whether the parameter's value is the default that gadget.yaml gives it."""
        declared = self.spec.metadata.get("paramdefaults")
        if not isinstance(declared, Mapping) or full_name.lower() not in declared:
            return False
        return scalar_text(declared[full_name.lower()]) == self.param(full_name)


def check_datasources_of(
    ctx: Context, full_name: str, given: Iterable[str], there: Iterable[DataSourceSpec]
) -> None:
    """Check that the data sources named in a parameter's value are *there*.

    A default of the gadget may name one that only its wasm module makes: that is a warning.

    Raises:
        UsageError: The user named another one.
    """
    what = f"--{full_name.rpartition('.')[2]}"
    error = unknown_datasource(given, (ds.name for ds in there), what)
    if error is not None and not ctx.is_from_gadget(full_name):
        raise error
    if error is not None:
        log.warning("the gadget's default is ignored: %s", error.message)


class Operator:
    """Base of every operator; a fresh instance serves one run."""

    name: ClassVar[str]
    priority: ClassVar[int]

    @classmethod
    def global_params(cls) -> list[ParamSpec]:
        """Parameters known before any gadget is (prefix ``operator.<name>.``)."""
        return []

    def instantiate(self, ctx: Context) -> bool:
        """Declare fields and parameters (``ctx.spec``) and steps (``ctx.plan``).

        Returns:
            Whether the operator acts on this gadget; if not, no other hook is called.
        """
        return False

    def settle(self, ctx: Context) -> None:
        """Before a run, and not where the image is only inspected: declare what depends on the
        fields of all operators."""

    def pre_start(self, ctx: Context, load: LoadParts, host: Host) -> None:
        """Before the object is loaded: add constants and maps to *load*."""

    def start(self, ctx: Context, running: Running) -> None:
        """With the object loaded and the stream open, before programs are attached."""

    def pre_stop(self, running: Running) -> None:
        """While events still flow."""

    def drained(self, running: Running) -> bool:
        """After the programs are detached and their buffers read, before events are counted.

        Returns:
            Whether the stream may have more to read now.
        """
        return False

    def stop(self) -> None:
        """Release everything; called after ``pre_start`` even when that or a later hook failed."""
