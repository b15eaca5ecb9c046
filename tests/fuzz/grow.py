"""Changes that know what an eBPF object is made of, and multiply it.

Each multiplies one thing; what a reader does with products of two comes by changing what was
changed before.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from fuzz import mutate
from fuzz.objects import NOBITS, PARTS, BtfType, Object, Section, Types, symbol_table, symbols

_ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _VAR, _DATASEC, _ENUM64 = 3, 4, 5, 6, 8, 14, 15, 19
_SYMTAB, _REL = 2, 9
_TOP_LEVEL_PARTS = 0xFFFF


def ebpf_object(data: bytes, rng: random.Random) -> bytes:
    """An object with something multiplied; now and then only some bytes changed."""
    if rng.random() < 0.1:
        return mutate.raw(data, rng)
    try:
        known = Object.read(data)
        for _ in range(rng.randint(1, 3)):
            rng.choice(_CHANGES)(known, rng)
        return known.write()
    except (struct.error, AssertionError, IndexError, ValueError, OverflowError):
        return mutate.raw(data, rng)


def _many(rng: random.Random, most: int = 16) -> int:
    return min(_TOP_LEVEL_PARTS, 1 << rng.randint(1, most))


Change = Callable[[Object, random.Random], None]


def _types(change: Callable[[Types, random.Random], None]) -> Change:
    def changed(known: Object, rng: random.Random) -> None:
        types = known.types()
        change(types, rng)
        known.put_types(types)

    return changed


def _parts(types: Types, rng: random.Random) -> None:
    """A member, enum value, parameter or section variable many times."""
    kinds = rng.choice([(_STRUCT, _UNION), (_ENUM, _ENUM64), tuple(PARTS)])
    one = rng.choice([t for t in types.of_kind(*kinds) if t.parts])
    part, count, new = rng.choice(one.parts), _many(rng), rng.random() < 0.7
    for index in range(count):
        name, rest = struct.unpack_from("<I", part)[0], bytearray(part[4:])
        if new and one.kind != _DATASEC:
            # Its ending may say what the field is.
            name = types.string(b"%x_" % index + types.text(name))
        if one.kind in (_STRUCT, _UNION) and new:
            struct.pack_into("<I", rest, 4, 32 * len(one.parts) & 0xFFFFFF)
        one.parts.append(struct.pack("<I", name) + rest)
    if one.kind == _STRUCT and new:
        one.third = max(one.third, 4 * len(one.parts))


def _maps(types: Types, rng: random.Random) -> None:
    """Maps that share a definition, or variables of another section."""
    section = rng.choice([t for t in types.of_kind(_DATASEC) if t.parts])
    part = rng.choice(section.parts)
    (number,) = struct.unpack_from("<I", part)
    variable = types.types[number - 1]
    for index in range(_many(rng, 12)):
        types.types.append(
            BtfType(types.string(b"m%x" % index), _VAR, 0, variable.third, variable.fixed)
        )
        section.parts.append(struct.pack("<I", len(types.types)) + part[4:])


def _markers(types: Types, rng: random.Random) -> None:
    """Data sources that share a struct; some whose names differ only by case."""
    one = rng.choice([t for t in types.of_kind(_VAR) if b"___" in types.name_of(t)])
    first, *rest = types.name_of(one).split(b"___")
    prefix, _, name = first.rpartition(b"_")
    by_case = rng.random() < 0.3
    for index in range(_many(rng, 10)):
        new = name + b"%x" % index
        if by_case:
            new = bytes(c ^ 32 if index >> i & 1 else c for i, c in enumerate(b"abcdefghijkl"))
        text = b"___".join([prefix + b"_" + new, *rest])
        types.types.append(BtfType(types.string(text), _VAR, 0, one.third, one.fixed))


def _names(types: Types, rng: random.Random) -> None:
    """Types whose names are suffixes of one string, or one long name."""
    kind = rng.choice([2, 2, _TYPEDEF, _VAR])
    start = types.string(b"n" * rng.choice([16, 512, 4095]))
    fixed = struct.pack("<I", 1) if kind == _VAR else b""
    suffixes = rng.random() < 0.7
    for index in range(_many(rng)):
        if suffixes and index % 4095 == 4094:
            start = types.string(b"n" * 4095)
        types.types.append(BtfType(start + (index % 4095 if suffixes else 0), kind, 0, 1, fixed))


def _chain(types: Types, rng: random.Random) -> None:
    """A member behind many typedefs or arrays."""
    one = rng.choice([t for t in types.of_kind(_STRUCT) if t.parts])
    place = rng.randrange(len(one.parts))
    name, target, offset = struct.unpack("<III", one.parts[place])
    for index in range(rng.choice([8, 62, 63, 200])):
        title = types.string(b"t%x" % index + b"y" * rng.choice([0, 0, 4000]))
        types.types.append(BtfType(title, _TYPEDEF, 0, target))
        target = len(types.types)
    one.parts[place] = struct.pack("<III", name, target, offset)


def _retype(types: Types, rng: random.Random) -> None:
    """A reference to another type."""
    one = rng.choice(types.types)
    if one.kind in (_STRUCT, _UNION) and one.parts:
        place = rng.randrange(len(one.parts))
        name, _, offset = struct.unpack("<III", one.parts[place])
        one.parts[place] = struct.pack("<III", name, rng.randint(0, len(types.types)), offset)
    elif one.kind == _ARRAY:
        count = rng.choice([0, 1, 1 << 16, 1 << 31, 0xFFFFFFFF])
        one.fixed = one.fixed[:8] + struct.pack("<I", count)
    else:
        one.third = rng.randint(0, len(types.types))


def _symbol_table(known: Object) -> Section:
    found = [s for s in known.sections if s.type == _SYMTAB]
    return found[0]


def _symbols(known: Object, rng: random.Random) -> None:
    """A symbol many times, of one name, of suffixes of one name, or of names of their own."""
    table = _symbol_table(known)
    strings = known.sections[table.header[6]]
    rows, text = symbols(table.data), bytearray(strings.data)
    row = rng.choice(rows)
    how, length = rng.randrange(3), rng.choice([1, 512, 4095])
    start = len(text)
    if how < 2:
        text += b"s" * length + b"\0"
    for index in range(_many(rng, 17)):
        new = list(row)
        new[0] = start + (index % length if how == 1 else 0)
        if how == 2:
            new[0] = len(text)
            text += b"s%x\0" % index
        if rng.random() < 0.5:
            new[4] = 8 * index
        rows.append(new)
    table.data, strings.data = symbol_table(rows), bytes(text)


def _symbol_sizes(known: Object, rng: random.Random) -> None:
    """Variables of any size, in sections without content."""
    table = _symbol_table(known)
    rows = symbols(table.data)
    row = rng.choice(rows)
    size = 1 << rng.randint(3, 40)
    row[5] = size
    home = known.sections[row[3]] if row[3] < len(known.sections) else known.sections[0]
    home.header[1], home.header[5] = NOBITS, row[4] + size
    table.data = symbol_table(rows)
    if rng.random() < 0.8:
        # The variable's type says the same.
        types = known.types()
        one = rng.choice([t for t in types.of_kind(_ARRAY) if _is_text(types, t)])
        one.fixed = one.fixed[:8] + struct.pack("<I", min(size, 0xFFFFFFFF))
        known.put_types(types)


def _is_text(types: Types, array: BtfType) -> bool:
    (element,) = struct.unpack_from("<I", array.fixed)
    return bool(0 < element <= len(types.types) and types.types[element - 1].third == 1)


def _sections(known: Object, rng: random.Random) -> None:
    """A section many times, at one place of the file or at many."""
    section = rng.choice(known.sections[1:])
    share = rng.random() < 0.5
    count = min(_many(rng, 13), 8190 - len(known.sections))
    section.at_one_place = share
    for _ in range(count):
        known.sections.append(type(section)(list(section.header), section.data, share))


def _entries(known: Object, rng: random.Random) -> None:
    """Relocations or instructions many times."""
    section = rng.choice([s for s in known.sections if s.type == _REL or s.header[2] & 4])
    count = _many(rng, 15)
    if section.type == _REL:
        piece = rng.randrange(max(1, len(section.data) // 16)) * 16
        section.data += section.data[piece : piece + 16] * count
        return
    old = len(section.data)
    section.data = section.data[:-8] * max(1, count * 8 // max(8, old)) + section.data[-8:]
    table = _symbol_table(known)
    rows, index = symbols(table.data), known.sections.index(section)
    for row in rows:
        if row[3] == index and row[4] + row[5] == old:
            row[5] = len(section.data) - row[4]
    table.data = symbol_table(rows)


def _notes(known: Object, rng: random.Random) -> None:
    """Lines or CO-RE relocations many times: the last list of ``.BTF.ext`` grows."""
    section = known.find(".BTF.ext")
    assert section is not None
    data = bytearray(section.data)
    length, core_off, core_len = struct.unpack_from("<I16xII", data, 4)
    start = length + core_off
    step, _, count = struct.unpack_from("<III", data, start)
    more = _many(rng)
    record = data[start + 12 : start + 12 + step]
    for index in range(more):
        data += struct.pack("<I", 8 * index) + record[4:]
    struct.pack_into("<I", data, start + 8, count + more)
    struct.pack_into("<I", data, 28, core_len + more * step)
    section.data = bytes(data)


_CHANGES: tuple[Change, ...] = (
    *map(_types, (_parts, _parts, _parts, _maps, _markers, _markers, _names, _chain, _retype)),
    _symbols, _symbol_sizes, _sections, _sections, _entries, _notes,
)  # fmt: skip
