"""Names beside enum values (docs/reference/ebpf.md#enums)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ig_py.errors import IgPyError, LimitError
from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import ENUMS
from ig_py.gadget.datasource import add_formatted_field
from ig_py.gadget.spec import Flag
from ig_py.host.files import require_absent
from ig_py.operators.base import Context, Operator
from ig_py.operators.formatters import formatted_name, is_taken
from ig_py.operators.parts import Turn

if TYPE_CHECKING:
    from ig_py.operators.parts import LoadParts
    from ig_py.operators.running import Host

TARGET = "ebpf.formatter.enum"
SEPARATOR = "ebpf.formatter.bitfield.separator"
SET_SUFFIX = "_set"
"""Ending of the names of enums whose values are flags."""
MAX_NAMES = 1 << 16
"""Names of values in the steps of all fields together: each step has its own copy in the core."""
KERNEL_BTF = Path("/sys/kernel/btf/vmlinux")


class EbpfEnum(Operator):
    """Belongs to the eBPF layer, whose fields are declared before those of other operators."""

    name: ClassVar[str] = "ebpf"
    priority: ClassVar[int] = -1000

    def __init__(self) -> None:
        self._steps: dict[str, list[dict[str, Any]]] = {}

    def instantiate(self, ctx: Context) -> bool:
        known: dict[int, list[list[Any]]] = {}
        for ds in ctx.spec.datasources:
            for source in [f for f in ds.fields if f.enum_values]:
                name = formatted_name(source, TARGET)
                if not name:
                    # `ig` hides an enum before it looks whether the field's name fits.
                    source.flags |= Flag.HIDDEN
                    ds.notes.append(
                        f"enum field {source.full_name!r} of {ds.name!r} is a number, and no column"
                        f" unless --fields asks for it: its name does not end in _raw and it has no"
                        f" annotation {TARGET!r}"
                    )
                    continue
                if is_taken(ds, source, name):
                    continue
                values = known.setdefault(id(source.enum_values), [])
                if not values:
                    values += [[v, n] for v, n in source.enum_values]
                source.flags |= Flag.HIDDEN
                formatted = add_formatted_field(ds, source, name)
                step = ctx.plan.add_step(
                    ds.name,
                    0,
                    Turn.LAYER,
                    op="enum",
                    src=source.index,
                    dst=formatted.index,
                    values=values,
                    set=source.enum_name.endswith(SET_SUFFIX),
                    separator=source.annotations.get(SEPARATOR) or "|",
                )
                self._steps.setdefault(source.enum_name, []).append(step.body)
        self._check_size(ctx)
        return bool(self._steps)

    def pre_start(self, ctx: Context, load: LoadParts, host: Host) -> None:
        """Prefer the running kernel's values: an enum may differ from kernel to kernel."""
        wanted = {name for name in self._steps if name}
        if not wanted:
            return
        try:
            raw = KERNEL_BTF.read_bytes()
        except OSError as error:
            require_absent(str(KERNEL_BTF), error, denied=True)
            return  # Without BTF of the kernel the object's own values are used.
        try:
            kernel = Btf(raw, "the running kernel", trusted=True)
            found = {t.name: t for t in kernel.of_kind(*ENUMS) if t.name in wanted}
        except IgPyError:
            return
        for name, enum in found.items():
            values = [[v, n] for v, n in enum.values]
            for body in self._steps[name]:
                body["values"] = values
        self._check_size(ctx)

    def _check_size(self, ctx: Context) -> None:
        names = sum(len(body["values"]) for bodies in self._steps.values() for body in bodies)
        if names > MAX_NAMES:
            raise LimitError(
                f"reading gadget {ctx.spec.name}: its enum fields have {names} names of values "
                f"together, at most {MAX_NAMES}"
            )
