"""An event struct's fields (docs/reference/ebpf.md#events-and-fields).

Deliberate differences from ``ig``, all on types with which it loses or garbles data: members of
anonymous structs and unions belong to the enclosing struct, bit-fields are decoded, typedefs of
structs and enums are followed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ig_py.errors import LimitError, ObjectError
from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import COMPOSITES, ENUMS, INT_BOOL, BtfKind, Member, Type
from ig_py.gadget.datasource import append_field
from ig_py.gadget.spec import DataSourceSpec, FieldSpec, Flag, Kind
from ig_py.gadget.templates import ALIASING_STRUCTS, BASE, implied_by
from ig_py.records import dataclass

MAX_DEPTH = 16
"""Deepest nesting of structs."""
MAX_STRUCT_SIZE = 1 << 20
"""Most bytes of an event; larger ones fit no ring buffer record that is read here."""

_SIGNED = {1: Kind.INT8, 2: Kind.INT16, 4: Kind.INT32, 8: Kind.INT64}
_UNSIGNED = {1: Kind.UINT8, 2: Kind.UINT16, 4: Kind.UINT32, 8: Kind.UINT64}
_FLOAT = {4: Kind.FLOAT32, 8: Kind.FLOAT64}


@dataclass(frozen=True, slots=True)
class Shape:
    """A C type as a field: the names of its typedefs, and its kind.

    *type* is the struct, union, enum or scalar at the end of the chain (of an
    array: its element).
    """

    names: tuple[str, ...]
    type: Type
    kind: Kind
    size: int
    count: int = 1
    array: bool = False


def scalar_kind(type: Type) -> Kind | None:
    """Kind of an INT, FLOAT or ENUM; None for what has none (128 bits)."""
    if type.kind == BtfKind.FLOAT:
        return _FLOAT.get(type.size)
    if type.kind in ENUMS:
        return (_SIGNED if type.signed else _UNSIGNED).get(type.size)
    if type.kind == BtfKind.INT:
        if type.encoding & INT_BOOL:
            return Kind.BOOL if type.size == 1 else _UNSIGNED.get(type.size)
        return (_SIGNED if type.signed else _UNSIGNED).get(type.size)
    return None


def shape_of(btf: Btf, type_id: int) -> Shape | None:
    """The shape of a type; None for pointers, functions and others that give no field."""
    names: list[str] = []
    dimensions: list[int] = []
    while True:
        last = None
        for last in btf.chain(type_id):
            # DECL_TAG and TYPE_TAG carry attributes, not type names.
            if last.name and last.kind != BtfKind.TYPE_TAG:
                names.append(last.name)
        assert last is not None
        if last.kind != BtfKind.ARRAY:
            break
        dimensions.append(last.count)
        if len(dimensions) > 8 or last.count == 0:
            return None
        type_id = last.element
    if last.kind in COMPOSITES:
        if dimensions or last.size == 0:
            return None
        return Shape(tuple(names), last, Kind.BYTES, last.size)
    kind = scalar_kind(last)
    if kind is None:
        return None
    size, count = last.size, 1
    for n in dimensions:
        size *= n
    if size > MAX_STRUCT_SIZE:
        return None
    if not dimensions:
        return Shape(tuple(names), last, kind, size)
    if kind == Kind.INT8 and "char" in names:
        # The last dimension is the text's length, those before it count texts.
        count = size // dimensions[-1]
        return Shape(tuple(names), last, Kind.CSTRING, size, count, len(dimensions) > 1)
    if len(dimensions) > 1:
        return Shape(tuple(names), last, Kind.BYTES, size)
    return Shape(tuple(names), last, kind, size, dimensions[0], True)


class _Walker:
    def __init__(
        self, btf: Btf, ds: DataSourceSpec, payload_index: int, extra_tags: Sequence[str]
    ) -> None:
        self.btf = btf
        self.ds = ds
        self.payload_index = payload_index
        self.extra_tags = extra_tags
        self.limit = 0

    def walk(
        self, struct: Type, base: int, parent: FieldSpec | None, aliasing: bool, depth: int
    ) -> None:
        if depth > MAX_DEPTH:
            raise LimitError(f"data source {self.ds.name!r}: structs nested over {MAX_DEPTH} deep")
        for member in struct.members:
            self.ds.room.take_member()
            if not member.name.startswith("__"):
                self.member(struct, member, base, parent, aliasing, depth)

    def member(
        self,
        struct: Type,
        member: Member,
        base: int,
        parent: FieldSpec | None,
        aliasing: bool,
        depth: int,
    ) -> None:
        shape = shape_of(self.btf, member.type_id)
        if shape is None:
            return
        composite = shape.type.kind in COMPOSITES
        offset, bit_offset, bit_size = self.place(shape, member, base)
        if offset + shape.size > self.limit:
            raise ObjectError(
                f"reading {self.btf.source}: member {member.name!r} lies outside "
                f"struct {struct.name!r}"
            )
        if not member.name:
            if composite:
                self.walk(shape.type, offset, parent, aliasing, depth + 1)
            return
        self.ds.room.take_field()
        field = append_field(
            self.ds,
            member.name,
            shape.kind,
            self.annotations(shape.names, member.name, aliasing),
            parent=parent,
            tags=[
                *(f"type:{n}" for n in shape.names),
                f"name:{member.name}",
                "src:ebpf",
                *self.extra_tags,
            ],
            flags=Flag.STATIC_MEMBER,
            order=0,
            payload_index=self.payload_index,
        )
        field.offset, field.size = offset, shape.size
        field.array, field.count = shape.array, shape.count
        field.bit_offset, field.bit_size = bit_offset, bit_size
        if shape.type.kind in ENUMS and not shape.array:
            field.enum_name = shape.type.name
            field.enum_values = shape.type.values
        if composite:
            self.walk(
                shape.type,
                offset,
                field,
                not ALIASING_STRUCTS.isdisjoint(shape.names),
                depth + 1,
            )

    def place(self, shape: Shape, member: Member, base: int) -> tuple[int, int, int]:
        """(byte offset, bit offset in the storage unit there, bits); no bits but for a bit-field.

        Raises:
            ObjectError: The member spans storage units, or begins within a byte.
        """
        bits = member.bit_size
        start = base * 8 + member.bit_offset
        scalar = shape.type
        if (
            not bits
            and not shape.array
            and scalar.kind == BtfKind.INT
            and 0 < scalar.bits < scalar.size * 8
        ):
            # Older compilers put the width of a bit-field into its integer type.
            bits, start = scalar.bits, start + scalar.int_offset
        if not bits:
            if start % 8:
                raise ObjectError(
                    f"reading {self.btf.source}: member {member.name!r} starts within a byte"
                )
            return start // 8, 0, 0
        width = shape.size * 8
        unit = start // width * shape.size
        if start - unit * 8 + bits > width or unit + shape.size > self.limit:
            # In a packed struct the storage unit is not aligned: take the bytes that hold the bits.
            unit = max(0, min(start // 8, self.limit - shape.size))
        rest = start - unit * 8
        if bits > width or rest + bits > width:
            raise ObjectError(
                f"reading {self.btf.source}: bit-field {member.name!r} spans storage units"
            )
        return unit, rest, bits

    @staticmethod
    def annotations(names: Sequence[str], member: str, aliasing: bool) -> Mapping[str, str]:
        result = dict(BASE)
        for name in names:
            result.update(implied_by(name))
        if aliasing:
            result["columns.alias"] = member
        return result


def add_struct_fields(
    ds: DataSourceSpec,
    btf: Btf,
    struct: Type,
    *,
    payload_index: int = 0,
    extra_tags: Sequence[str] = (),
) -> None:
    """Append the fields of *struct* to *ds*, depth first in declaration order.

    Raises:
        ObjectError: The struct's type information is malformed.
        LimitError: It is too large, too deeply nested, or has too many members.
    """
    if struct.size > MAX_STRUCT_SIZE:
        raise LimitError(
            f"data source {ds.name!r}: struct {struct.name!r} has {struct.size} bytes, "
            f"at most {MAX_STRUCT_SIZE}"
        )
    walker = _Walker(btf, ds, payload_index, extra_tags)
    walker.limit = struct.size
    walker.walk(struct, 0, None, struct.name in ALIASING_STRUCTS, 0)
