"""Small gadget objects made of bytes, and specs read from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ig_py.gadget.load import build_spec
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceSpec, GadgetSpec
from support.elf_writer import SIGNED, BtfWriter, ElfWriter, Insn, Members, exit_, helper, load

RINGBUF = 27


def tracer_object(
    members: Callable[[BtfWriter], Members],
    *,
    size: int = 64,
    declare: Callable[[BtfWriter, ElfWriter], None] = lambda btf, elf: None,
    code: Sequence[Insn] = (exit_(),),
    struct: str = "event",
) -> bytes:
    """A gadget with data source ``ds``: struct *struct* from ring buffer ``events``."""
    btf, elf = BtfWriter(), ElfWriter()
    btf.struct(struct, size, members(btf))
    btf.map("events", RINGBUF, entries=4096)
    elf.map("events")
    btf.marker(f"gadget_tracer_ds___events___{struct}")
    elf.program("prog", "tracepoint/a/b", code)
    declare(btf, elf)
    btf.maps()
    return elf.write(btf.write())


def object_with_limit() -> bytes:
    """Data source ``ds`` with the field ``a``, and a variable ``limit`` of 7."""

    def declare(btf: BtfWriter, elf: ElfWriter) -> None:
        elf.variable("limit", ".rodata", b"\7\0\0\0")
        elf.variable("gadget_tracer_ds___events___event", ".bss", 8)

    return tracer_object(
        lambda btf: [("a", btf.integer("int", 4, SIGNED), 0)],
        declare=declare,
        code=[load(1, "events"), helper(1), exit_()],
    )


def spec_of(raw: bytes, metadata: Mapping[str, Any] | None = None, **options: Any) -> GadgetSpec:
    return build_spec(Metadata(metadata or {}), raw, name="test", source="test", **options)


def datasource_of(raw: bytes, metadata: Mapping[str, Any] | None = None) -> DataSourceSpec:
    [ds] = spec_of(raw, metadata).datasources
    return ds
