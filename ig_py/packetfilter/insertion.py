"""Instructions in front of a function of an object file.

The rest of the section moves behind them; symbols, relocations, calls and the offsets in
``.BTF.ext`` are corrected. Layouts: ELF-64 object file format; Documentation/bpf/btf.rst;
Documentation/bpf/llvm_reloc.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ig_py.errors import LimitError, ObjectError
from ig_py.gadget.elf import (
    MAX_FILE_SIZE,
    SHT_REL,
    SHT_SYMTAB,
    STT_FUNC,
    STT_SECTION,
    Elf,
    Section,
    Symbol,
)
from ig_py.gadget.insn import CALL, LD_IMM64, PSEUDO_CALL, SIZE

_BTF_MAGIC = 0xEB9F
_SECTION_TABLE = 0x28
_SECTION_HEADER = 64
_HEADER_OFFSET = 24
_SYMBOL = 24
_SYMBOL_VALUE = 8
_REL = 16
_RECORDS = ("func_info", "line_info", "core_relo")


def inserted(obj: bytes, function: str, code: bytes, source: str) -> bytes:
    """*obj* with *code* as the first instructions of *function*, which keeps its name.

    Raises:
        ObjectError: The function is not there, or the object is not consistent.
        LimitError: The object would be too large.
    """
    elf = Elf(obj, source)
    symbol = next((s for s in elf.symbols if s.type == STT_FUNC and s.name == function), None)
    if symbol is None or not 0 < symbol.section < len(elf.sections):
        raise ObjectError(f"reading {source}: there is no function {function}")
    if len(obj) + len(code) > MAX_FILE_SIZE // 2:
        raise LimitError(f"reading {source}: too large for a packet filter")
    return _Insertion(elf, symbol, code).done()


class _Insertion:
    def __init__(self, elf: Elf, symbol: Symbol, code: bytes) -> None:
        self._elf = elf
        self._code = code
        self._at = symbol.value
        self._section = elf.sections[symbol.section]
        self._file = bytearray(elf.raw)
        if self._at % SIZE or self._at >= self._section.size:
            raise self._bad(f"{symbol.name} begins at no instruction")

    def done(self) -> bytes:
        self._relocated_targets()
        self._near_calls()
        self._symbols()
        self._relocations()
        self._info()
        self._grow()
        return bytes(self._file)

    def _bad(self, why: str) -> ObjectError:
        return ObjectError(f"reading {self._elf.source}: not a valid eBPF object: {why}")

    def _moved(self, place: int) -> int:
        """*place* (offset in the section) after the insertion; the function's beginning stays."""
        return place + len(self._code) if self._at < place <= self._section.size else place

    def _u32(self, at: int) -> int:
        if not 0 <= at <= len(self._file) - 4:
            raise self._bad(f"offset {at} lies outside of the file")
        return int(struct.unpack_from("<I", self._file, at)[0])

    def _s32(self, at: int) -> int:
        value = self._u32(at)
        return value - (1 << 32) if value >> 31 else value

    def _put32(self, at: int, value: int) -> None:
        struct.pack_into("<I", self._file, at, value & 0xFFFFFFFF)

    def _relocated_targets(self) -> None:
        """Calls and function pointers that are relative to the section's symbol."""
        for index, relocations in self._elf.relocations.items():
            section = self._elf.sections[index]
            if not section.executable:
                continue
            for relocation in relocations:
                symbol = relocation.symbol
                if symbol.section != self._section.index or symbol.type != STT_SECTION:
                    continue
                at = section.offset + relocation.offset
                opcode, source = self._u32(at) & 0xFF, self._u32(at) >> 12 & 0xF
                addend = self._s32(at + 4)
                if opcode == CALL and source == PSEUDO_CALL:
                    target = symbol.value + (addend + 1) * SIZE
                    self._put32(at + 4, addend + (self._moved(target) - target) // SIZE)
                elif opcode == LD_IMM64:
                    target = symbol.value + addend
                    self._put32(at + 4, addend + self._moved(target) - target)

    def _near_calls(self) -> None:
        """Calls within the section that have no relocation."""
        section = self._section
        known = {r.offset for r in self._elf.relocations.get(section.index, ())}
        for place in range(0, section.size - SIZE + 1, SIZE):
            at = section.offset + place
            word = self._u32(at)
            if place in known or word & 0xFF != CALL or word >> 12 & 0xF != PSEUDO_CALL:
                continue
            target = place + (self._s32(at + 4) + 1) * SIZE
            new_place = place + len(self._code) if place >= self._at else place
            self._put32(at + 4, (self._moved(target) - new_place) // SIZE - 1)

    def _symbols(self) -> None:
        table = next(s for s in self._elf.sections if s.type == SHT_SYMTAB)
        for number, symbol in enumerate(self._elf.symbols):
            if symbol.section != self._section.index or symbol.type == STT_SECTION:
                continue
            value, size = symbol.value, symbol.size
            if value <= self._at < value + size <= self._section.size:
                size += len(self._code)
            at = table.offset + number * _SYMBOL + _SYMBOL_VALUE
            struct.pack_into("<QQ", self._file, at, self._moved(value), size)

    def _relocations(self) -> None:
        for section in self._elf.sections:
            if section.type != SHT_REL or section.info != self._section.index:
                continue
            for at in range(section.offset, section.offset + section.size, _REL):
                (place,) = struct.unpack_from("<Q", self._file, at)
                if self._at <= place < self._section.size:
                    struct.pack_into("<Q", self._file, at, place + len(self._code))

    def _info(self) -> None:
        """Correct ``.BTF.ext``: functions and lines begin where they began, CO-RE relocations move
        with their instruction."""
        for kind, at in self._records():
            place = self._u32(at)
            if place == self._at and kind == "core_relo":
                self._put32(at, place + len(self._code))
            else:
                self._put32(at, self._moved(place))

    def _records(self) -> Iterator[tuple[str, int]]:
        """(kind, offset in the file) of each record of ``.BTF.ext`` about the section."""
        ext, btf = self._elf.section(".BTF.ext"), self._elf.section(".BTF")
        if ext is None or btf is None:
            return
        names = self._names(btf)
        header = self._u32(ext.offset + 4)
        if self._u32(ext.offset) & 0xFFFF != _BTF_MAGIC or header > ext.size:
            raise self._bad(".BTF.ext has no header")
        for number, kind in enumerate(_RECORDS):
            if header < 8 + 8 * (number + 1):
                return
            field = ext.offset + 8 + 8 * number
            at = ext.offset + header + self._u32(field)
            end = at + self._u32(field + 4)
            if end > ext.offset + ext.size:
                raise self._bad(".BTF.ext is longer than its section")
            if at == end:
                continue
            width = self._u32(at)
            at += 4
            while at < end:
                name, count = self._u32(at), self._u32(at + 4)
                at += 8
                if width < 4 or count * width > end - at:
                    raise self._bad(".BTF.ext has records outside of it")
                if names.get(name) == self._section.name:
                    yield from ((kind, at + width * i) for i in range(count))
                at += width * count

    def _names(self, btf: Section) -> dict[int, str]:
        """Offsets in BTF's strings at which the section's name begins, mapped to it."""
        header, offset, size = (self._u32(btf.offset + at) for at in (4, 16, 20))
        begin = btf.offset + header + offset
        if begin + size > btf.offset + btf.size:
            raise self._bad(".BTF has strings outside of it")
        wanted = b"\0" + self._section.name.encode() + b"\0"
        text = bytes(self._file[begin : begin + size])
        found, at = {}, text.find(wanted)
        while at >= 0:
            found[at + 1] = self._section.name
            at = text.find(wanted, at + 1)
        return found

    def _grow(self) -> None:
        section = self._section
        content = self._file[section.offset : section.offset + section.size]
        grown = content[: self._at] + self._code + content[self._at :]
        self._file += bytes(-len(self._file) % SIZE)
        (table,) = struct.unpack_from("<Q", self._file, _SECTION_TABLE)
        header = table + section.index * _SECTION_HEADER + _HEADER_OFFSET
        struct.pack_into("<QQ", self._file, header, len(self._file), len(grown))
        self._file += grown
