"""Writers of BTF and BPF ELF objects, for tests that need an object of exactly some shape.

::

    btf = BtfWriter()
    u32 = btf.integer("unsigned int", 4)
    event = btf.struct("event", 8, [("pid", u32, 0), ("tid", u32, 32)])
    btf.marker("gadget_tracer_x___events___event")
    obj = ElfWriter()
    obj.map("events")
    obj.program("prog", "tracepoint/a/b", [load_map(1, "events"), call(1), exit_()])
    raw = obj.write(btf.write())
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

SIGNED, CHAR, BOOL = 1, 2, 4
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION = 0, 1, 2, 3
LOCAL, GLOBAL = 0, 1
R_BPF_64_64, R_BPF_64_32 = 1, 10


Members = Sequence[tuple[str, int, int]] | Sequence[tuple[str, int, int, int]]


class BtfWriter:
    """Types get ids from 1 in the order of the calls; each method returns its id."""

    def __init__(self) -> None:
        self.types: list[bytes] = []
        self.strings = bytearray(b"\0")
        self._offsets: dict[str, int] = {"": 0}
        self._void_pointer = 0
        self._datasecs: dict[str, list[tuple[int, int, int]]] = {}

    def string(self, text: str) -> int:
        if text not in self._offsets:
            self._offsets[text] = len(self.strings)
            self.strings += text.encode() + b"\0"
        return self._offsets[text]

    def add(
        self, name: str, kind: int, third: int, vlen: int = 0, flag: bool = False, more: bytes = b""
    ) -> int:
        """Any type from its raw parts."""
        info = int(flag) << 31 | kind << 24 | vlen
        self.types.append(struct.pack("<III", self.string(name), info, third) + more)
        return len(self.types)

    def integer(self, name: str, size: int, encoding: int = 0, bits: int = 0) -> int:
        more = struct.pack("<I", encoding << 24 | (bits or size * 8))
        return self.add(name, 1, size, more=more)

    def pointer(self, target: int = 0) -> int:
        return self.add("", 2, target)

    def array(self, element: int, count: int) -> int:
        return self.add("", 3, 0, more=struct.pack("<III", element, element, count))

    def struct(
        self,
        name: str,
        size: int,
        members: Members,
        union: bool = False,
    ) -> int:
        """Members are (name, type, bit offset[, bit-field size])."""
        flag = any(len(m) == 4 and m[3] for m in members)
        more = bytearray()
        for member in members:
            name_, type_, offset, *bits = member
            place = (bits[0] if bits else 0) << 24 | offset if flag else offset
            more += struct.pack("<III", self.string(name_), type_, place)
        return self.add(name, 5 if union else 4, size, len(members), flag, bytes(more))

    def enum(self, name: str, size: int, values: Sequence[tuple[str, int]], signed: bool) -> int:
        more = b"".join(
            struct.pack("<Ii" if signed else "<II", self.string(n), v) for n, v in values
        )
        return self.add(name, 6, size, len(values), signed, more)

    def enum64(self, name: str, values: Sequence[tuple[str, int]], signed: bool) -> int:
        more = b"".join(
            struct.pack("<III", self.string(n), v & 0xFFFFFFFF, v >> 32 & 0xFFFFFFFF)
            for n, v in values
        )
        return self.add(name, 19, 8, len(values), signed, more)

    def typedef(self, name: str, target: int) -> int:
        return self.add(name, 8, target)

    def volatile(self, target: int) -> int:
        return self.add("", 9, target)

    def const(self, target: int) -> int:
        return self.add("", 10, target)

    def float(self, name: str, size: int) -> int:
        return self.add(name, 16, size)

    def variable(self, name: str, target: int, linkage: int = GLOBAL) -> int:
        return self.add(name, 14, target, more=struct.pack("<I", linkage))

    def marker(self, name: str) -> int:
        """A global ``const void *`` of that name."""
        if not self._void_pointer:
            self._void_pointer = self.pointer(self.const(0))
        return self.variable(name, self._void_pointer)

    def datasec(self, name: str, entries: Sequence[tuple[int, int, int]]) -> int:
        """Entries are (variable, offset, size)."""
        more = b"".join(struct.pack("<III", *entry) for entry in entries)
        return self.add(name, 15, sum(e[2] for e in entries), len(entries), more=more)

    def number(self, count: int) -> int:
        """``int (*)[count]``, as map definitions write numbers."""
        return self.pointer(self.array(self.integer("int", 4, SIGNED), count))

    def map(self, name: str, type: int, *, key: int = 0, value: int = 0, entries: int = 1) -> int:
        """A map definition; call :meth:`maps` once at the end."""
        members = [("type", self.number(type), 0), ("max_entries", self.number(entries), 64)]
        if key:
            members.append(("key", self.pointer(key), 128))
        if value:
            members.append(("value", self.pointer(value), 192))
        definition = self.struct("", 8 * len(members), members)
        variable = self.variable(name, definition)
        known = self._datasecs.setdefault(".maps", [])
        known.append((variable, 32 * len(known), 32))
        return variable

    def maps(self) -> int:
        return self.datasec(".maps", self._datasecs.get(".maps", []))

    def write(self) -> bytes:
        types = b"".join(self.types)
        header = struct.pack(
            "<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.strings)
        )
        return header + types + bytes(self.strings)


@dataclass(frozen=True)
class Insn:
    """One instruction; *symbol* is what a relocation makes it refer to."""

    opcode: int
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0
    symbol: str = ""

    def encode(self) -> bytes:
        first = struct.pack(
            "<BBhi", self.opcode, self.src << 4 | self.dst, self.off, _signed(self.imm)
        )
        if self.opcode != 0x18:
            return first
        return first + struct.pack("<II", 0, self.imm >> 32 & 0xFFFFFFFF)


def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def load(register: int, symbol: str, *, src: int = 0, imm: int = 0) -> Insn:
    """The address of a map, a data section or a function into a register."""
    return Insn(0x18, register, src, imm=imm, symbol=symbol)


def helper(number: int) -> Insn:
    return Insn(0x85, imm=number)


def call(symbol: str) -> Insn:
    """A call of a function of this object by its symbol."""
    return Insn(0x85, src=1, imm=-1, symbol=symbol)


def call_near(distance: int) -> Insn:
    """A call without relocation: *distance* instructions from the next one."""
    return Insn(0x85, src=1, imm=distance)


def move(dst: int, src: int) -> Insn:
    return Insn(0xBF, dst, src)


def exit_() -> Insn:
    return Insn(0x95)


@dataclass
class _Section:
    name: str
    type: int
    flags: int
    data: bytes = b""
    size: int = 0
    link: int = 0
    info: int = 0
    entsize: int = 0


@dataclass
class _Symbol:
    name: str
    section: str
    value: int
    size: int
    type: int
    bind: int
    other: int = 0


@dataclass
class _Relocation:
    section: str
    offset: int
    symbol: str
    type: int = R_BPF_64_64


@dataclass
class ElfWriter:
    """Sections in the order of first mention."""

    sections: dict[str, _Section] = field(default_factory=dict)
    symbols: list[_Symbol] = field(default_factory=list)
    relocations: list[_Relocation] = field(default_factory=list)
    machine: int = 247

    def section(self, name: str, type: int = 1, flags: int = 0, data: bytes = b"") -> _Section:
        if name not in self.sections:
            self.sections[name] = _Section(name, type, flags)
        section = self.sections[name]
        section.data += data
        section.size = max(section.size, len(section.data))
        return section

    def symbol(
        self,
        name: str,
        section: str,
        value: int = 0,
        size: int = 0,
        type: int = STT_OBJECT,
        bind: int = GLOBAL,
        other: int = 0,
    ) -> None:
        self.symbols.append(_Symbol(name, section, value, size, type, bind, other))

    def map(self, name: str) -> None:
        """A map of 32 bytes of definition in ``.maps``."""
        section = self.section(".maps", flags=3)
        self.symbol(name, ".maps", section.size, 32)
        self.section(".maps", data=bytes(32))

    def variable(self, name: str, section: str, data: bytes | int, *, other: int = 0) -> None:
        """A variable with initial bytes, or of a size in a section without (``.bss``)."""
        if isinstance(data, int):
            home = self.section(section, type=8, flags=3)
            self.symbol(name, section, home.size, data, other=other)
            home.size += data
            return
        home = self.section(section, flags=2)
        self.symbol(name, section, home.size, len(data), other=other)
        self.section(section, data=data)

    def program(self, name: str, section: str, code: Sequence[Insn], bind: int = GLOBAL) -> None:
        """A function, appended to its section."""
        home = self.section(section, flags=6)
        start = home.size
        raw = bytearray()
        for insn in code:
            if insn.symbol:
                self.relocations.append(_Relocation(section, start + len(raw), insn.symbol))
            raw += insn.encode()
        self.symbol(name, section, start, len(raw), STT_FUNC, bind)
        self.section(section, data=bytes(raw))

    def section_symbol(self, section: str) -> None:
        """The symbol that stands for a section; named like it for relocations."""
        self.symbols.append(_Symbol(section, section, 0, 0, STT_SECTION, LOCAL))

    def write(self, btf: bytes | None = None) -> bytes:
        if btf is not None:
            self.section(".BTF", data=btf)
        sections = list(self.sections.values())
        index = {s.name: i for i, s in enumerate(sections, start=1)}
        strings, symtab = bytearray(b"\0"), bytearray(24)
        numbers: dict[str, int] = {}
        ordered = sorted(self.symbols, key=lambda s: s.bind)
        for number, symbol in enumerate(ordered, start=1):
            # The name of a section's symbol is only how relocations find it.
            offset = 0
            if symbol.type != STT_SECTION:
                offset = len(strings)
                strings += symbol.name.encode("utf-8", "surrogateescape") + b"\0"
            numbers.setdefault(symbol.name, number)
            symtab += struct.pack(
                "<IBBHQQ",
                offset,
                symbol.bind << 4 | symbol.type,
                symbol.other,
                index.get(symbol.section, 0),
                symbol.value,
                symbol.size,
            )
        symtab_index = len(sections) + 1
        by_section: dict[str, bytes] = {}
        for relocation in self.relocations:
            by_section[relocation.section] = by_section.get(relocation.section, b"") + struct.pack(
                "<QQ", relocation.offset, numbers[relocation.symbol] << 32 | relocation.type
            )
        locals_ = 1 + sum(s.bind == LOCAL for s in ordered)
        sections.append(
            _Section(
                ".symtab", 2, 0, bytes(symtab), len(symtab), symtab_index + 1, locals_, entsize=24
            )
        )
        sections.append(_Section(".strtab", 3, 0, bytes(strings), len(strings)))
        for name, data in by_section.items():
            sections.append(
                _Section(".rel" + name, 9, 0, data, len(data), symtab_index, index[name], 16)
            )
        return _layout(sections, self.machine)


def _layout(sections: list[_Section], machine: int) -> bytes:
    names = bytearray(b"\0")
    body = bytearray()
    headers = bytearray(64)
    for section in [*sections, _Section(".shstrtab", 3, 0)]:
        name = len(names)
        names += section.name.encode() + b"\0"
        if section.name == ".shstrtab":
            section.data, section.size = bytes(names), len(names)
        offset = 64 + len(body)
        body += section.data
        headers += struct.pack(
            "<IIQQQQIIQQ",
            name,
            section.type,
            section.flags,
            0,
            offset,
            section.size,
            section.link,
            section.info,
            8,
            section.entsize,
        )
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        1,
        machine,
        1,
        0,
        0,
        64 + len(body),
        0,
        64,
        0,
        0,
        64,
        len(sections) + 2,
        len(sections) + 1,
    )
    return header + bytes(body) + bytes(headers)
