"""Global variables and programs of an eBPF object, from its symbol table."""

from __future__ import annotations

from ig_py.errors import LimitError, ObjectError
from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import BtfKind
from ig_py.gadget.elf import (
    SHN_LORESERVE,
    SHT_NOBITS,
    SHT_PROGBITS,
    STB_LOCAL,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    STV_HIDDEN,
    STV_INTERNAL,
    Elf,
    Section,
)
from ig_py.gadget.spec import VariableSpec

MAX_PROGRAMS = 1024


def is_data_section(section: Section) -> bool:
    """``.bss``, ``.data*`` and ``.rodata*``: each becomes a map at load."""
    name = section.name
    return section.type in (SHT_NOBITS, SHT_PROGBITS) and (
        name == ".bss" or name.startswith((".data", ".rodata"))
    )


def is_program_section(section: Section) -> bool:
    return section.type == SHT_PROGBITS and section.executable and section.size > 0


def read_variables(elf: Elf, btf: Btf | None) -> list[VariableSpec]:
    """Global, visible variables of the data sections, by section and offset."""
    types: dict[tuple[str, str], int] = {}
    if btf is not None:
        data = {s.name for s in elf.sections if is_data_section(s)}
        for section in btf.of_kind(BtfKind.DATASEC):
            for entry in section.vars if section.name in data else ():
                types[section.name, btf.type(entry.type_id).name] = entry.type_id
    result = []
    for symbol in elf.symbols:
        if not 0 < symbol.section < SHN_LORESERVE or symbol.bind == STB_LOCAL or not symbol.name:
            continue
        if symbol.visibility in (STV_HIDDEN, STV_INTERNAL):
            continue
        if symbol.type not in (STT_OBJECT, STT_NOTYPE):
            continue
        home = elf.sections[symbol.section]
        if not is_data_section(home):
            continue
        if symbol.value + symbol.size > home.size:
            raise ObjectError(
                f"reading {elf.source}: variable {symbol.name!r} lies outside {home.name}"
            )
        # Each has its section's name beside its own where they are listed.
        elf.names.take(len(home.name))
        result.append(
            VariableSpec(
                name=symbol.name,
                section=home.name,
                offset=symbol.value,
                size=symbol.size,
                type_id=types.get((home.name, symbol.name), 0),
            )
        )
    return sorted(result, key=lambda v: (v.section, v.offset, v.name))


def read_programs(elf: Elf) -> list[tuple[str, str]]:
    """(name, section) of every program: the functions outside ``.text``."""
    result = []
    for symbol in elf.symbols:
        if not 0 < symbol.section < SHN_LORESERVE or not symbol.name:
            continue
        home = elf.sections[symbol.section]
        if symbol.type != STT_FUNC or symbol.bind == STB_LOCAL or home.name == ".text":
            continue
        if is_program_section(home):
            result.append((symbol.name, home.name))
            if len(result) > MAX_PROGRAMS:
                raise LimitError(f"reading {elf.source}: more than {MAX_PROGRAMS} programs")
    return sorted(result)
