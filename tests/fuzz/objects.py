"""eBPF objects as something to change: sections, and the types of their BTF.

The reader believes what it reads: it reads what a writer here wrote. What it cannot read is
changed blindly.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from fuzz.mutate import MAX_SAMPLE

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_BTF = struct.Struct("<HBBIIIII")
_EXTRA = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0),
          15: (0, 12), 17: (4, 0), 19: (0, 12)}  # fmt: skip
NOBITS = 8
PARTS = {kind: each for kind, (_, each) in _EXTRA.items() if each}


@dataclass
class BtfType:
    """*parts* are what follows the three words, cut as the kind has it."""

    name: int
    kind: int
    flag: int
    third: int
    fixed: bytes = b""
    parts: list[bytes] = field(default_factory=list)

    def write(self) -> bytes:
        count = min(len(self.parts), 0xFFFF)
        vlen = count if self.kind in PARTS else self.flag & 0xFFFF
        info = self.flag & 0x80000000 | self.kind << 24 | vlen
        return (
            struct.pack("<III", self.name, info, self.third & 0xFFFFFFFF)
            + self.fixed
            + b"".join(self.parts[:count])
        )


@dataclass
class Types:
    """A BTF blob."""

    types: list[BtfType]
    strings: bytearray

    @classmethod
    def read(cls, raw: bytes) -> Types:
        _, _, _, head, type_off, type_len, str_off, str_len = _BTF.unpack_from(raw)
        data = raw[head + type_off : head + type_off + type_len]
        strings = bytearray(raw[head + str_off : head + str_off + str_len])
        types, at = [], 0
        while at < len(data):
            name, info, third = struct.unpack_from("<III", data, at)
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            fixed, each = _EXTRA.get(kind, (0, 0))
            at += 12
            more = data[at : at + fixed + each * vlen]
            parts = [more[fixed + i * each : fixed + (i + 1) * each] for i in range(vlen)]
            types.append(
                BtfType(name, kind, info & 0x80000000 | vlen, third, more[:fixed],
                        parts if each else [])
            )  # fmt: skip
            at += fixed + each * vlen
        return cls(types, strings)

    def write(self) -> bytes:
        types = b"".join(t.write() for t in self.types)
        head = _BTF.pack(0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.strings))
        return head + types + bytes(self.strings)

    def string(self, text: bytes) -> int:
        self.strings += text + b"\0"
        return len(self.strings) - len(text) - 1

    def text(self, offset: int) -> bytes:
        return bytes(self.strings[offset : self.strings.find(b"\0", offset)])

    def name_of(self, one: BtfType) -> bytes:
        return self.text(one.name)

    def of_kind(self, *kinds: int) -> list[BtfType]:
        return [t for t in self.types if t.kind in kinds]


@dataclass
class Section:
    """*at_one_place* sections with the same ``data`` share its bytes in the file."""

    header: list[int]
    data: bytes
    at_one_place: bool = False

    @property
    def type(self) -> int:
        return self.header[1]


@dataclass
class Object:
    """An ELF file."""

    header: bytes
    sections: list[Section]

    @classmethod
    def read(cls, raw: bytes) -> Object:
        (start,) = struct.unpack_from("<Q", raw, 40)
        count, names = struct.unpack_from("<HH", raw, 60)
        found = []
        for index in range(count):
            header = list(_SECTION.unpack_from(raw, start + index * _SECTION.size))
            data = b"" if header[1] in (0, NOBITS) else raw[header[4] : header[4] + header[5]]
            found.append(Section(header, data))
        assert found[names].type == 3
        return cls(raw[:64], found)

    def write(self) -> bytes:
        """Raises ValueError when it is larger than a sample: many sections may be large."""
        body, places = bytearray(), dict[bytes, int]()
        headers = bytearray()
        for section in self.sections:
            head = list(section.header)
            if section.type not in (0, NOBITS):
                place = places.get(section.data) if section.at_one_place else None
                if place is None:
                    place = places[section.data] = 64 + len(body)
                    body += section.data
                if len(body) > MAX_SAMPLE:
                    raise ValueError("an object that is larger than a sample")
                head[4], head[5] = place, len(section.data)
            headers += _SECTION.pack(*head)
        body += bytes(-len(body) % 8)
        header = bytearray(self.header)
        struct.pack_into("<Q", header, 40, 64 + len(body))
        struct.pack_into("<H", header, 60, len(self.sections))
        return bytes(header + body + headers)

    def find(self, name: str) -> Section | None:
        names = self.sections[struct.unpack_from("<H", self.header, 62)[0]].data
        wanted = name.encode() + b"\0"
        return next((s for s in self.sections if names.startswith(wanted, s.header[0])), None)

    def types(self) -> Types:
        section = self.find(".BTF")
        assert section is not None
        return Types.read(section.data)

    def put_types(self, types: Types) -> None:
        section = self.find(".BTF")
        assert section is not None
        section.data = types.write()


def symbols(data: bytes) -> list[list[int]]:
    """Name, info, other, section, value, size of each symbol."""
    return [list(s) for s in _SYMBOL.iter_unpack(data[: len(data) // 24 * 24])]


def symbol_table(rows: list[list[int]]) -> bytes:
    return b"".join(
        _SYMBOL.pack(n & 0xFFFFFFFF, i, o, s & 0xFFFF, v & (1 << 64) - 1, z & (1 << 64) - 1)
        for n, i, o, s, v, z in rows
    )
