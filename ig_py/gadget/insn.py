"""BPF instructions, and what an object's relocations make them refer to.

Encoding: kernel Documentation/bpf/standardization/instruction-set.rst.
References follow libbpf's relocation rules for an object before it is linked
(https://docs.kernel.org/bpf/llvm_reloc.html).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from ig_py.errors import LimitError, ObjectError
from ig_py.gadget.allowance import Allowance
from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import BtfKind
from ig_py.gadget.elf import (
    SHN_LORESERVE,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_NULL,
    SHT_PROGBITS,
    STB_LOCAL,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    STT_SECTION,
    Elf,
    Relocation,
    Section,
    Symbol,
)
from ig_py.gadget.variables import is_data_section, is_program_section
from ig_py.records import dataclass

SIZE = 8
MAX_INSTRUCTIONS = 1 << 17
"""Instructions of all functions of an object together."""
MAX_FLAT_INSTRUCTIONS = 1 << 18
"""Instructions of what all programs reach, called functions counted once a program."""

LD_IMM64 = 0x18
CALL = 0x85
PSEUDO_CALL = 1
PSEUDO_MAP_VALUE = 2
PSEUDO_FUNC = 4

_WORD = struct.Struct("<BBhi")


class Instruction(NamedTuple):
    """One instruction; *offset* is its offset in its section in bytes.

    A 16-byte load (LD_IMM64) is one instruction whose *imm* has 64 bits.
    *reference* is the name of the map, data section or function that it refers
    to; *is_function* tells that it is a function of this object, *place* is
    the offset in a data section.
    """

    offset: int
    opcode: int
    dst: int
    src: int
    off: int
    imm: int
    reference: str = ""
    is_function: bool = False
    place: int = 0

    @property
    def size(self) -> int:
        return 2 * SIZE if self.opcode == LD_IMM64 else SIZE


@dataclass(frozen=True)
class Function:
    """A function symbol of a program section and its instructions, as loaded or called."""

    name: str
    section: str
    instructions: tuple[Instruction, ...]

    def references(self) -> list[str]:
        """Names of the functions that it calls or points to, sorted, each once."""
        return sorted({i.reference for i in self.instructions if i.is_function})


class Code:
    """All functions of an object, and the collection's maps."""

    def __init__(self, elf: Elf) -> None:
        self.elf = elf
        self._by_section = self._symbols()
        self._kconfig = _kconfig_names(elf)
        self._total = 0
        self._flat = Allowance(
            MAX_FLAT_INSTRUCTIONS, f"reading {elf.source}", "instructions, with all calls"
        )
        self._reached: dict[str, tuple[Function, ...]] = {}
        self._calls: dict[str, list[str]] = {}
        self.functions: dict[str, Function] = {}
        for section in elf.sections:
            if not _is_code(section):
                continue
            for function in self._functions_of(section):
                if function.name in self.functions:
                    raise ObjectError(
                        f"reading {elf.source}: two functions are named {function.name!r}",
                        remedy="rename one of them",
                    )
                self.functions[function.name] = function

    def _symbols(self) -> dict[int, dict[int, Symbol]]:
        result: dict[int, dict[int, Symbol]] = {}
        for symbol in self.elf.symbols:
            if not symbol.name or not SHN_UNDEF < symbol.section < SHN_LORESERVE:
                continue
            home = self.elf.sections[symbol.section]
            if is_map_section(home) or is_data_section(home):
                keep = symbol.type in (STT_NOTYPE, STT_OBJECT)
            elif _is_code(home):
                local_label = symbol.type == STT_NOTYPE and symbol.bind == STB_LOCAL
                keep = symbol.type in (STT_NOTYPE, STT_FUNC) and not local_label
            else:
                keep = False
            if keep:
                result.setdefault(home.index, {})[symbol.value] = symbol
        return result

    def programs(self) -> list[Function]:
        """Functions outside ``.text``, sorted by name bytewise."""
        found = [f for f in self.functions.values() if f.section != ".text"]
        return sorted(found, key=lambda f: f.name.encode())

    def reached(self, program: Function) -> tuple[Function, ...]:
        """*program*, then the functions that it calls or points to, breadth first, each once.

        Raises:
            LimitError: All programs together reach more than MAX_FLAT_INSTRUCTIONS instructions.
        """
        if program.name not in self._reached:
            self._reached[program.name] = tuple(self._walk(program))
        return self._reached[program.name]

    def _walk(self, program: Function) -> Iterator[Function]:
        done: set[str] = set()
        queue: deque[str] = deque()
        current: Function | None = program
        while True:
            if current is not None:
                self._flat.take(len(current.instructions))
                yield current
                if current.name not in self._calls:
                    self._calls[current.name] = current.references()
                queue.extend(self._calls[current.name])
            if not queue:
                return
            name = queue.popleft()
            current = None if name in done else self.functions.get(name)
            done.add(name)

    def maps(self) -> list[str]:
        """Names of the collection's maps: ``.maps`` and the data sections in use, sorted."""
        names = set()
        targets = self.elf.relocation_targets
        for section in self.elf.sections:
            symbols = self._by_section.get(section.index, {})
            if is_map_section(section):
                names |= {s.name for s in symbols.values()}
            elif is_data_section(section) and (symbols or section.index in targets):
                names.add(section.name)
        return sorted(names, key=str.encode)

    def _functions_of(self, section: Section) -> Iterator[Function]:
        data = self.elf.data(section)
        relocations = {r.offset: r for r in self.elf.relocations_of(section.index)}
        symbols = self._by_section.get(section.index, {})
        for symbol in sorted(symbols.values(), key=lambda s: s.value):
            end = symbol.value + symbol.size
            if symbol.value % SIZE or symbol.size % SIZE or end > len(data):
                raise ObjectError(
                    f"reading {self.elf.source}: function {symbol.name!r} lies outside "
                    f"section {section.name!r} or within an instruction"
                )
            if symbol.size == 0:
                continue
            self._total += symbol.size // SIZE
            if self._total > MAX_INSTRUCTIONS:
                raise LimitError(
                    f"reading {self.elf.source}: more than {MAX_INSTRUCTIONS} instructions"
                )
            yield Function(
                symbol.name,
                section.name,
                tuple(self._decode(section, data, symbol.value, end, relocations)),
            )

    def _decode(
        self,
        section: Section,
        data: bytes,
        start: int,
        end: int,
        relocations: dict[int, Relocation],
    ) -> Iterator[Instruction]:
        pos = start
        while pos < end:
            opcode, registers, off, imm = _WORD.unpack_from(data, pos)
            length = SIZE
            if opcode == LD_IMM64:
                length = 2 * SIZE
                if pos + length > end:
                    raise ObjectError(
                        f"reading {self.elf.source}: a 16-byte load is cut short in "
                        f"section {section.name!r}"
                    )
                imm = (imm & 0xFFFFFFFF) | int.from_bytes(data[pos + 12 : pos + 16], "little") << 32
            dst, src = registers & 0xF, registers >> 4
            relocation = relocations.get(pos)
            name, is_function = self._reference(section, pos, opcode, src, imm, relocation)
            if opcode == LD_IMM64 and relocation and self._is_kconfig(relocation.symbol):
                src = PSEUDO_MAP_VALUE
            place = relocation.symbol.value + imm if relocation and name[:1] == "." else 0
            yield Instruction(pos, opcode, dst, src, off, imm, name, is_function, place)
            pos += length

    def _reference(
        self,
        section: Section,
        pos: int,
        opcode: int,
        src: int,
        imm: int,
        relocation: Relocation | None,
    ) -> tuple[str, bool]:
        if relocation is None:
            if opcode == CALL and src == PSEUDO_CALL and imm != -1:
                return self._function_at(section.index, pos + SIZE + imm * SIZE), True
            return "", False
        symbol = relocation.symbol
        if symbol.section == SHN_UNDEF:
            return ("" if self._is_kconfig(symbol) else symbol.name), False
        if symbol.section >= SHN_LORESERVE:
            return "", False
        target = self.elf.sections[symbol.section]
        if is_map_section(target):
            if symbol.type == STT_SECTION:
                raise ObjectError(
                    f"reading {self.elf.source}: a relocation names no map in {target.name}"
                )
            return symbol.name, False
        if is_data_section(target):
            return target.name, False
        if not _is_code(target):
            return "", False
        if symbol.type != STT_SECTION:
            return symbol.name, True
        offset = (imm + 1) * SIZE if opcode == CALL else imm
        return self._function_at(target.index, offset), True

    def _is_kconfig(self, symbol: Symbol) -> bool:
        """Does it stand for the kernel's configuration, which the loader puts into a map?"""
        return symbol.section == SHN_UNDEF and symbol.name in self._kconfig

    def _function_at(self, section: int, offset: int) -> str:
        symbol = self._by_section.get(section, {}).get(offset)
        if symbol is None:
            raise ObjectError(
                f"reading {self.elf.source}: a call leads to offset {offset}, where no function is"
            )
        return symbol.name


def _kconfig_names(elf: Elf) -> frozenset[str]:
    """Externs that stand for the kernel's configuration: data, but of no section here."""
    section = elf.section(".BTF")
    if section is None:
        return frozenset()
    btf = Btf(elf.data(section), elf.source)
    datasec = btf.find(".kconfig", BtfKind.DATASEC)
    return frozenset(btf.type(v.type_id).name for v in datasec.vars) if datasec else frozenset()


def is_map_section(section: Section) -> bool:
    """``.maps``; ``maps*`` holds definitions of the older kind."""
    if section.type in (SHT_NULL, SHT_NOBITS):
        return False
    return section.name == ".maps" or section.name.startswith("maps")


def _is_code(section: Section) -> bool:
    if section.type != SHT_PROGBITS or section.name.startswith(("license", "version")):
        return False
    return (
        is_program_section(section) and not is_map_section(section) and not is_data_section(section)
    )
