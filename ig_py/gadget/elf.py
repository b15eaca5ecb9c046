"""ELF objects of BPF machines, read from untrusted bytes.

Only what an eBPF object file is made of: 64-bit little-endian relocatable
files (``e_machine`` EM_BPF, as clang's ``-target bpf`` writes them), sections,
one symbol table and SHT_REL relocations. Layout: ELF-64 object file format,
gABI chapters 4 and 5. Sections that overlap are malformed: what is read of all of them is never
more than the file.
"""

from __future__ import annotations

import struct
from functools import cached_property
from typing import NamedTuple

from ig_py.errors import LimitError, ObjectError
from ig_py.gadget.allowance import Allowance
from ig_py.records import dataclass

MAX_FILE_SIZE = 64 << 20
MAX_SECTIONS = 8192
MAX_SYMBOLS = 1 << 16
MAX_RELOCATIONS = 1 << 18
"""Relocations that are read, of all sections together."""
MAX_NAME = 4096
MAX_NAMES = 4 << 20
"""Bytes of the names of all sections and symbols, which may share one string."""

EM_BPF = 247
ET_REL = 1

SHT_NULL = 0
SHT_PROGBITS = 1
SHT_SYMTAB = 2
SHT_STRTAB = 3
SHT_NOBITS = 8
SHT_REL = 9
SHF_EXECINSTR = 0x4

SHN_UNDEF = 0
SHN_LORESERVE = 0xFF00

STT_NOTYPE = 0
STT_OBJECT = 1
STT_FUNC = 2
STT_SECTION = 3

STB_LOCAL = 0

STV_HIDDEN = 2
STV_INTERNAL = 1

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_REL = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Section:
    """One section header; offsets and sizes in bytes."""

    index: int
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    entsize: int

    @property
    def executable(self) -> bool:
        return bool(self.flags & SHF_EXECINSTR)


class Symbol(NamedTuple):
    """One symbol; *section* is a section index (SHN_UNDEF when external)."""

    name: str
    value: int
    size: int
    bind: int
    type: int
    visibility: int
    section: int


class Relocation(NamedTuple):
    """A SHT_REL entry: *offset* in the section it applies to."""

    offset: int
    symbol: Symbol
    type: int


class Elf:
    """A parsed object.

    Args:
        source: Names it in errors: an image reference or a path.

    Raises:
        ObjectError: The file is malformed.
        LimitError: It has more sections, symbols or bytes of names than the limits above.
    """

    def __init__(self, raw: bytes, source: str = "eBPF object") -> None:
        self.raw = raw
        self.source = source
        if len(raw) > MAX_FILE_SIZE:
            raise LimitError(f"reading {source}: {len(raw)} bytes, at most {MAX_FILE_SIZE} allowed")
        self.names = Allowance(MAX_NAMES, f"reading {source}", "bytes of names")
        """Bytes of names that may still be read from this object."""
        self._relocated = Allowance(MAX_RELOCATIONS, f"reading {source}", "relocations")
        self.sections: tuple[Section, ...] = self._read_sections()
        self._by_name: dict[str, Section] = {}
        for section in self.sections:
            self._by_name.setdefault(section.name, section)
        self.symbols: tuple[Symbol, ...] = self._read_symbols()

    def _bad(self, why: str) -> ObjectError:
        return ObjectError(
            f"reading {self.source}: not a valid eBPF ELF object: {why}",
            remedy="build the gadget again (image build)",
        )

    def _slice(self, offset: int, size: int, what: str) -> memoryview:
        if offset < 0 or size < 0 or offset + size > len(self.raw):
            raise self._bad(f"{what} lies outside the file")
        return memoryview(self.raw)[offset : offset + size]

    def _read_sections(self) -> tuple[Section, ...]:
        raw = self.raw
        if len(raw) < _HEADER.size or raw[:4] != b"\x7fELF":
            raise self._bad("no ELF header")
        if raw[4] != 2:
            raise self._bad("not a 64-bit file")
        if raw[5] != 1:
            raise self._bad("not little-endian")
        (_, kind, machine, _, _, _, shoff, _, _, _, _, shentsize, shnum, shstrndx) = (
            _HEADER.unpack_from(raw)
        )
        if machine != EM_BPF:
            raise self._bad(f"machine {machine}, expected {EM_BPF} (BPF)")
        if kind != ET_REL:
            raise self._bad("not a relocatable file")
        if shnum == 0 or shentsize != _SECTION.size:
            raise self._bad("no section table")
        if shnum > MAX_SECTIONS:
            raise LimitError(
                f"reading {self.source}: {shnum} sections, at most {MAX_SECTIONS} allowed"
            )
        if shstrndx >= shnum:
            raise self._bad("no section names")
        table = self._slice(shoff, shnum * _SECTION.size, "the section table")
        headers = [_SECTION.unpack_from(table, i * _SECTION.size) for i in range(shnum)]
        names = headers[shstrndx]
        if names[1] != SHT_STRTAB:
            raise self._bad("the section names are no string table")
        strings = bytes(self._slice(names[4], names[5], "the section name table"))
        result = []
        total = 0
        for i, (name, type_, flags, _, offset, size, link, info, _, entsize) in enumerate(headers):
            if type_ not in (SHT_NOBITS, SHT_NULL):
                self._slice(offset, size, f"section {i}")
                total += size
                if total > len(raw):
                    raise self._bad("its sections overlap")
            text = self._string(strings, name) if i else ""
            result.append(Section(i, text, type_, flags, offset, size, link, info, entsize))
        return tuple(result)

    def _string(self, table: bytes, offset: int) -> str:
        if offset >= len(table):
            raise self._bad("a name lies outside its string table")
        end = table.find(b"\0", offset, offset + MAX_NAME + 1)
        if end < 0:
            raise self._bad(f"a name is unterminated or longer than {MAX_NAME} bytes")
        self.names.take(end - offset)
        try:
            return table[offset:end].decode()
        except UnicodeDecodeError:
            raise self._bad("a name is not UTF-8") from None

    def _read_symbols(self) -> tuple[Symbol, ...]:
        table = next((s for s in self.sections if s.type == SHT_SYMTAB), None)
        if table is None:
            return ()
        if table.entsize != _SYMBOL.size or table.size % _SYMBOL.size:
            raise self._bad("the symbol table has a wrong entry size")
        count = table.size // _SYMBOL.size
        if count > MAX_SYMBOLS:
            raise LimitError(
                f"reading {self.source}: {count} symbols, at most {MAX_SYMBOLS} allowed"
            )
        if table.link >= len(self.sections) or self.sections[table.link].type != SHT_STRTAB:
            raise self._bad("the symbol table has no string table")
        strings = self.data(self.sections[table.link])
        result = []
        for name, info, other, shndx, value, size in _SYMBOL.iter_unpack(self.data(table)):
            if SHN_LORESERVE > shndx >= len(self.sections):
                raise self._bad("a symbol refers to a section that is not there")
            result.append(
                Symbol(
                    name=self._string(strings, name) if name else "",
                    value=value,
                    size=size,
                    bind=info >> 4,
                    type=info & 0xF,
                    visibility=other & 0x3,
                    section=shndx,
                )
            )
        return tuple(result)

    def section(self, name: str) -> Section | None:
        """First section of that name."""
        return self._by_name.get(name)

    def data(self, section: Section) -> bytes:
        """Content; empty for SHT_NOBITS, whose size is virtual."""
        if section.type in (SHT_NOBITS, SHT_NULL):
            return b""
        return self.raw[section.offset : section.offset + section.size]

    @cached_property
    def _relocation_sections(self) -> dict[int, list[Section]]:
        """Index of the section they apply to -> the sections that hold its relocations."""
        result: dict[int, list[Section]] = {}
        for section in self.sections:
            if section.type != SHT_REL:
                continue
            if section.entsize != _REL.size or section.size % _REL.size:
                raise self._bad(f"relocations {section.name!r} have a wrong entry size")
            if not 0 < section.info < len(self.sections):
                raise self._bad(f"relocations {section.name!r} apply to no section")
            result.setdefault(section.info, []).append(section)
        return result

    def relocations_of(self, index: int) -> list[Relocation]:
        """Relocations that apply to section *index*, in file order.

        Raises:
            ObjectError: They are malformed.
            LimitError: More than MAX_RELOCATIONS were asked for, of all sections together.
        """
        symbols, found = self.symbols, []
        for section in self._relocation_sections.get(index, ()):
            self._relocated.take(section.size // _REL.size)
            for offset, info in _REL.iter_unpack(self.data(section)):
                number = info >> 32
                if number >= len(symbols):
                    raise self._bad("a relocation refers to a symbol that is not there")
                found.append(Relocation(offset, symbols[number], info & 0xFFFFFFFF))
        return found

    @cached_property
    def relocations(self) -> dict[int, tuple[Relocation, ...]]:
        """Index of the section they apply to -> relocations in file order; raises as above."""
        return {i: tuple(self.relocations_of(i)) for i in self._relocation_sections}

    @cached_property
    def relocation_targets(self) -> frozenset[int]:
        """Indexes of the sections that relocations of any section refer to; raises as above."""
        numbers: set[int] = set()
        for sections in self._relocation_sections.values():
            for section in sections:
                # Only the upper half of r_info: these may be a whole file's debug information.
                numbers |= {info >> 32 for _, info in _REL.iter_unpack(self.data(section))}
        if numbers and max(numbers) >= len(self.symbols):
            raise self._bad("a relocation refers to a symbol that is not there")
        return frozenset(self.symbols[number].section for number in numbers)
