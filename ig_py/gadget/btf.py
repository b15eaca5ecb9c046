"""BTF type information, read from untrusted bytes.

Encoding: kernel Documentation/bpf/btf.rst. Types are indexed once and decoded
on demand, each once, so that a large blob costs only what is looked at. Every length is
checked against its section before use. What is looked at has limits of its own: types and
names may be shared, so a small blob can stand for far more than its size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ig_py.errors import LimitError, ObjectError
from ig_py.gadget.allowance import Allowance
from ig_py.gadget.btf_types import TRANSPARENT, BtfKind, EnumValues, Member, SecVar, Type

MAX_SIZE = 64 << 20
MAX_TYPES = 1 << 17
MAX_PARTS = 1 << 17
"""Members, enum values and section variables of all decoded types together."""
MAX_NAME = 4096
MAX_NAMES = 4 << 20
"""Bytes of all decoded names; types may share one string, or a suffix of it."""
MAX_STEPS = 1 << 18
"""Steps through typedefs and qualifiers, from all types together."""
MAX_CHAIN = 64
"""Longest chain of typedefs, qualifiers and arrays that is followed."""

MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")

# Bytes that follow the common 12-byte header: fixed part, part per vlen item.
_EXTRA: dict[int, tuple[int, int]] = {
    BtfKind.INT: (4, 0),
    BtfKind.ARRAY: (12, 0),
    BtfKind.STRUCT: (0, 12),
    BtfKind.UNION: (0, 12),
    BtfKind.ENUM: (0, 8),
    BtfKind.FUNC_PROTO: (0, 8),
    BtfKind.VAR: (4, 0),
    BtfKind.DATASEC: (0, 12),
    BtfKind.DECL_TAG: (4, 0),
    BtfKind.ENUM64: (0, 12),
}
_SIZED = frozenset(
    {
        BtfKind.INT,
        BtfKind.STRUCT,
        BtfKind.UNION,
        BtfKind.ENUM,
        BtfKind.ENUM64,
        BtfKind.FLOAT,
        BtfKind.DATASEC,
    }
)

_VOID = Type(0, BtfKind.VOID, "")


class Btf:
    """A BTF blob (the content of an ELF ``.BTF`` section).

    *trusted*: the kernel's own, of any number of types.
    """

    def __init__(self, raw: bytes, source: str = "BTF", *, trusted: bool = False) -> None:
        self.source = source
        attempt = f"reading type information of {source}"
        self._parts = Allowance(None if trusted else MAX_PARTS, attempt, "members and values")
        self._names_left = Allowance(None if trusted else MAX_NAMES, attempt, "bytes of names")
        self._steps = Allowance(None if trusted else MAX_STEPS, attempt, "typedefs to follow")
        self._max_types = MAX_SIZE if trusted else MAX_TYPES
        if len(raw) > MAX_SIZE:
            raise LimitError(f"reading {source}: {len(raw)} bytes of BTF, at most {MAX_SIZE}")
        if len(raw) < _HEADER.size:
            raise self._bad("no header")
        magic, version, _, hdr_len, type_off, type_len, str_off, str_len = _HEADER.unpack_from(raw)
        if magic != MAGIC:
            raise self._bad("wrong magic (or big-endian)")
        if version != 1:
            raise self._bad(f"version {version} is unknown")
        if hdr_len < _HEADER.size or hdr_len > len(raw):
            raise self._bad("wrong header length")
        self._types = self._part(raw, hdr_len + type_off, type_len, "type")
        self._strings = self._part(raw, hdr_len + str_off, str_len, "string")
        if self._strings[:1] not in (b"", b"\0") or self._strings[-1:] not in (b"", b"\0"):
            raise self._bad("the string section does not start and end with NUL")
        self._offsets = self._index()
        self._cache: dict[int, Type] = {0: _VOID}
        self._by_name: dict[BtfKind, dict[str, int]] = {}

    def _bad(self, why: str) -> ObjectError:
        return ObjectError(
            f"reading type information of {self.source}: invalid BTF: {why}",
            remedy="build the gadget again (image build)",
        )

    def _part(self, raw: bytes, offset: int, size: int, what: str) -> bytes:
        if offset + size > len(raw):
            raise self._bad(f"the {what} section lies outside the data")
        return raw[offset : offset + size]

    def _index(self) -> list[int]:
        offsets = [0]
        data, pos, end = self._types, 0, len(self._types)
        while pos < end:
            if pos + 12 > end:
                raise self._bad("a type is cut short")
            if len(offsets) >= self._max_types:
                raise LimitError(f"reading {self.source}: more than {self._max_types} BTF types")
            offsets.append(pos)
            info = int.from_bytes(data[pos + 4 : pos + 8], "little")
            kind = (info >> 24) & 0x1F
            if not 0 < kind <= BtfKind.ENUM64:
                raise self._bad(f"type {len(offsets) - 1} has unknown kind {kind}")
            fixed, each = _EXTRA.get(kind, (0, 0))
            pos += 12 + fixed + each * (info & 0xFFFF)
        if pos != end:
            raise self._bad("the last type is cut short")
        return offsets

    def __len__(self) -> int:
        """Number of types, VOID (id 0) included."""
        return len(self._offsets)

    def string(self, offset: int) -> str:
        """The string at *offset* of the string section.

        Raises:
            ObjectError: There is none, or it is too long or no UTF-8.
            LimitError: All names together are too long.
        """
        if offset == 0:
            return ""
        if offset >= len(self._strings):
            raise self._bad("a name lies outside the string section")
        end = self._strings.find(b"\0", offset, offset + MAX_NAME + 1)
        if end < 0:
            raise self._bad(f"a name is longer than {MAX_NAME} bytes")
        self._names_left.take(end - offset)
        try:
            return self._strings[offset:end].decode()
        except UnicodeDecodeError:
            raise self._bad("a name is not UTF-8") from None

    def kind(self, type_id: int) -> BtfKind:
        if type_id == 0:
            return BtfKind.VOID
        if not 0 < type_id < len(self._offsets):
            raise self._bad(f"type id {type_id} does not exist")
        return BtfKind(self._types[self._offsets[type_id] + 7] & 0x1F)

    def name(self, type_id: int) -> str:
        """The type's name; its members are not decoded.

        Raises:
            ObjectError: There is no type of that id.
        """
        if self.kind(type_id) == BtfKind.VOID:
            return ""
        at = self._offsets[type_id]
        return self.string(int.from_bytes(self._types[at : at + 4], "little"))

    def type(self, type_id: int) -> Type:
        """Decode one type.

        Raises:
            ObjectError: There is none of that id, or it is malformed.
            LimitError: All types together have too many members.
        """
        cached = self._cache.get(type_id)
        if cached is None:
            self.kind(type_id)
            cached = self._cache[type_id] = self._decode(type_id)
        return cached

    def _decode(self, type_id: int) -> Type:
        data, pos = self._types, self._offsets[type_id]
        name_off, info, third = _TYPE.unpack_from(data, pos)
        kind = BtfKind((info >> 24) & 0x1F)
        vlen, flag, pos = info & 0xFFFF, bool(info >> 31), pos + 12
        name = self.string(name_off)
        size, ref = (third, 0) if kind in _SIZED else (0, third)

        def items(fmt: str) -> Iterator[tuple[int, ...]]:
            self._parts.take(vlen)
            record = struct.Struct(fmt)
            return record.iter_unpack(data[pos : pos + record.size * vlen])

        match kind:
            case BtfKind.INT:
                (word,) = struct.unpack_from("<I", data, pos)
                return Type(
                    type_id,
                    kind,
                    name,
                    size,
                    encoding=(word >> 24) & 0xF,
                    int_offset=(word >> 16) & 0xFF,
                    bits=word & 0xFF,
                )
            case BtfKind.ARRAY:
                element, _, count = _TYPE.unpack_from(data, pos)
                return Type(type_id, kind, name, element=element, count=count)
            case BtfKind.STRUCT | BtfKind.UNION:
                members = tuple(
                    Member(
                        self.string(n),
                        t,
                        off & 0xFFFFFF if flag else off,
                        off >> 24 if flag else 0,
                    )
                    for n, t, off in items("<III")
                )
                return Type(type_id, kind, name, size, flag=flag, members=members)
            case BtfKind.ENUM:
                values = EnumValues((v, self.string(n)) for n, v in items("<Ii" if flag else "<II"))
                return Type(type_id, kind, name, size, flag=flag, values=values)
            case BtfKind.ENUM64:
                wide = []
                for n, low, high in items("<III"):
                    value = high << 32 | low
                    wide.append(
                        (value - (1 << 64) if flag and high >> 31 else value, self.string(n))
                    )
                return Type(type_id, kind, name, size, flag=flag, values=EnumValues(wide))
            case BtfKind.VAR:
                (linkage,) = struct.unpack_from("<I", data, pos)
                return Type(type_id, kind, name, ref=ref, linkage=linkage)
            case BtfKind.FUNC:
                return Type(type_id, kind, name, ref=ref, linkage=vlen)
            case BtfKind.DATASEC:
                variables = tuple(SecVar(t, off, n) for t, off, n in items("<III"))
                return Type(type_id, kind, name, size, vars=variables)
            case _:
                return Type(type_id, kind, name, size, ref, flag)

    def of_kind(self, *kinds: BtfKind, prefix: str = "") -> Iterator[Type]:
        """All types of those kinds whose names begin with *prefix*, by id."""
        wanted, start = frozenset(kinds), prefix.encode()
        data, strings = self._types, self._strings
        for type_id in range(1, len(self._offsets)):
            at = self._offsets[type_id]
            if data[at + 7] & 0x1F not in wanted:
                continue
            if start and not strings.startswith(start, int.from_bytes(data[at : at + 4], "little")):
                continue
            yield self.type(type_id)

    def find(self, name: str, *kinds: BtfKind) -> Type | None:
        """First type of that name and one of those kinds."""
        ids = [i for kind in kinds if (i := self._named(kind).get(name)) is not None]
        return self.type(min(ids)) if ids else None

    def _named(self, kind: BtfKind) -> dict[str, int]:
        """Name -> the first type of that kind that has it."""
        if kind not in self._by_name:
            found = self._by_name[kind] = {}
            for type_id in range(1, len(self._offsets)):
                at = self._offsets[type_id]
                if self._types[at + 7] & 0x1F == kind:
                    offset = int.from_bytes(self._types[at : at + 4], "little")
                    if offset:
                        found.setdefault(self.string(offset), type_id)
        return self._by_name[kind]

    def chain(self, type_id: int) -> Iterator[Type]:
        """*type_id* and what it stands for, through typedefs and qualifiers.

        The last item is the first type that is neither.
        """
        for _ in range(MAX_CHAIN):
            self._steps.take()
            current = self.type(type_id)
            yield current
            if current.kind not in TRANSPARENT:
                return
            type_id = current.ref
        raise self._bad(f"more than {MAX_CHAIN} typedefs and qualifiers in a row, or a cycle")

    def resolve(self, type_id: int) -> Type:
        """The type behind typedefs and qualifiers."""
        *_, last = self.chain(type_id)
        return last

    def size_of(self, type_id: int) -> int:
        """Size in bytes; 0 for void, functions and forward declarations."""
        factor = 1
        for _ in range(MAX_CHAIN):
            current = self.resolve(type_id)
            if current.kind == BtfKind.ARRAY:
                factor *= current.count
                type_id = current.element
                continue
            if current.kind == BtfKind.VAR:
                type_id = current.ref
                continue
            size = 8 if current.kind == BtfKind.PTR else current.size
            if factor * size > 1 << 32:
                raise self._bad(f"type {type_id} is larger than 4 GiB")
            return factor * size
        raise self._bad("arrays nested too deeply, or a cycle")
