"""The types that BTF describes: plain data, without the blob they are read from.

Kinds and their numbers: kernel include/uapi/linux/btf.h.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

from ig_py.records import dataclass


class BtfKind(IntEnum):
    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


INT_SIGNED = 1
INT_CHAR = 2
INT_BOOL = 4

QUALIFIERS = frozenset({BtfKind.CONST, BtfKind.VOLATILE, BtfKind.RESTRICT, BtfKind.TYPE_TAG})
TRANSPARENT = QUALIFIERS | {BtfKind.TYPEDEF}
COMPOSITES = frozenset({BtfKind.STRUCT, BtfKind.UNION})
ENUMS = frozenset({BtfKind.ENUM, BtfKind.ENUM64})


class Member(NamedTuple):
    """A struct or union member; *bit_size* is 0 unless it is a bit-field."""

    name: str
    type_id: int
    bit_offset: int
    bit_size: int


class SecVar(NamedTuple):
    """A variable of a DATASEC (offset and size in bytes)."""

    type_id: int
    offset: int
    size: int


class EnumValues(tuple[tuple[int, str], ...]):
    """(value, name) in declaration order; fields of the same enum share them."""

    def __deepcopy__(self, _memo: object) -> EnumValues:
        return self

    @cached_property
    def names(self) -> dict[int, str]:
        """Value -> the first name that it has."""
        return {value: name for value, name in reversed(self)}

    @cached_property
    def by_name(self) -> dict[str, int]:
        """Name -> the first value that it has."""
        return {name: value for value, name in reversed(self)}


NO_VALUES = EnumValues()


@dataclass(frozen=True, slots=True)
class Type:
    """One BTF type. Which attributes mean something depends on *kind*.

    *size* (bytes) for sized kinds, *ref* (type id) for the others; *encoding*,
    *bits* and *int_offset* for INT; *element*, *count* for ARRAY; *linkage* for
    VAR and FUNC; *signed* for ENUM and ENUM64.
    """

    id: int
    kind: BtfKind
    name: str
    size: int = 0
    ref: int = 0
    flag: bool = False
    members: tuple[Member, ...] = ()
    values: EnumValues = NO_VALUES
    vars: tuple[SecVar, ...] = ()
    element: int = 0
    count: int = 0
    encoding: int = 0
    bits: int = 0
    int_offset: int = 0
    linkage: int = 0

    @property
    def signed(self) -> bool:
        return self.flag if self.kind in ENUMS else bool(self.encoding & INT_SIGNED)
