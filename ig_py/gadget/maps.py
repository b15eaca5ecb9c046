"""Map definitions of an eBPF object: the BTF of its ``.maps`` section.

A map is a global struct variable whose members encode its attributes as types:
``int (*type)[N]`` or an enum with the single value N for numbers (``__uint()`` and ``__ulong()``
of libbpf's bpf_helpers.h), ``K *key`` for types (libbpf's BTF-defined maps). Attributes and kinds
of maps that are not known are left to the kernel: whatever they are encoded as, an object that has
them can be read.
"""

from __future__ import annotations

from ig_py.errors import LimitError, ObjectError
from ig_py.gadget.allowance import Allowance
from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import ENUMS, BtfKind, Type
from ig_py.gadget.spec import MapSpec
from ig_py.records import dataclass

MAX_MAPS = 4096
MAX_ATTRIBUTES = 1 << 14
"""Members of all map definitions; a definition that several maps share counts once."""

HASH = 1
PERF_EVENT_ARRAY = 4
RINGBUF = 27
SOCKMAP = 15
SOCKHASH = 18

TYPE_NAMES = (
    "UnspecifiedMap",
    "Hash",
    "Array",
    "ProgramArray",
    "PerfEventArray",
    "PerCPUHash",
    "PerCPUArray",
    "StackTrace",
    "CGroupArray",
    "LRUHash",
    "LRUCPUHash",
    "LPMTrie",
    "ArrayOfMaps",
    "HashOfMaps",
    "DevMap",
    "SockMap",
    "CPUMap",
    "XSKMap",
    "SockHash",
    "CGroupStorage",
    "ReusePortSockArray",
    "PerCPUCGroupStorage",
    "Queue",
    "Stack",
    "SkStorage",
    "DevMapHash",
    "StructOpsMap",
    "RingBuf",
    "InodeStorage",
    "TaskStorage",
    "BloomFilter",
    "UserRingbuf",
    "CgroupStorage",
    "Arena",
)
"""Names of ``BPF_MAP_TYPE_*`` by number, as ``image inspect`` prints them."""


def type_name(number: int) -> str:
    return TYPE_NAMES[number] if number < len(TYPE_NAMES) else f"MapType({number})"


PIN_BY_NAME = 1
"""LIBBPF_PIN_BY_NAME of libbpf's bpf_helpers.h."""

_NUMBERS = frozenset({"type", "key_size", "value_size", "max_entries", "pinning"})
_TYPES = frozenset({"key", "value"})


@dataclass(frozen=True, slots=True)
class MapDef:
    """A map and the BTF types of its key and value (0 when it has none)."""

    spec: MapSpec
    key_type: int = 0
    value_type: int = 0


def read_maps(btf: Btf) -> dict[str, MapDef]:
    """Maps by name, in the order of the ``.maps`` section."""
    section = btf.find(".maps", BtfKind.DATASEC)
    if section is None:
        return {}
    if len(section.vars) > MAX_MAPS:
        raise LimitError(f"reading {btf.source}: more than {MAX_MAPS} maps")
    result: dict[str, MapDef] = {}
    definitions = _Definitions(btf)
    for entry in section.vars:
        variable = btf.type(entry.type_id)
        definition = btf.resolve(variable.ref)
        if variable.kind != BtfKind.VAR or definition.kind != BtfKind.STRUCT:
            raise ObjectError(
                f"reading {btf.source}: {variable.name!r} in section .maps is no map definition"
            )
        result[variable.name] = _read_map(
            btf, variable.name, definitions.of(variable.name, definition)
        )
    return result


@dataclass(frozen=True, slots=True)
class _Attributes:
    """The attributes of one definition: numbers, and ids of the types of keys and values."""

    numbers: dict[str, int]
    types: dict[str, int]


class _Definitions:
    """Map definitions, each of which is read once, also where several maps share it."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._read: dict[int, _Attributes] = {}
        self._left = Allowance(
            MAX_ATTRIBUTES, f"reading {btf.source}", "attributes of map definitions"
        )

    def of(self, name: str, definition: Type) -> _Attributes:
        """The attributes of *definition*; *name* is the map's, for errors."""
        if definition.id not in self._read:
            self._left.take(len(definition.members))
            self._read[definition.id] = self._attributes(name, definition)
        return self._read[definition.id]

    def _attributes(self, name: str, definition: Type) -> _Attributes:
        btf, numbers, types = self._btf, dict[str, int](), dict[str, int]()
        for member in definition.members:
            if member.name in _NUMBERS:
                number = _number(btf, btf.resolve(member.type_id))
                if number is None:
                    raise ObjectError(
                        f"reading {btf.source}: map {name!r}: attribute {member.name!r} "
                        "is no number"
                    )
                numbers[member.name] = number
            elif member.name in _TYPES:
                target = btf.resolve(member.type_id)
                if target.kind != BtfKind.PTR:
                    raise ObjectError(
                        f"reading {btf.source}: map {name!r}: attribute {member.name!r} "
                        "is no pointer"
                    )
                types[member.name] = target.ref
        return _Attributes(numbers, types)


def _number(btf: Btf, encoded: Type) -> int | None:
    """The number that an attribute's type stands for; None when it stands for none."""
    if encoded.kind in ENUMS:
        return encoded.values[0][0] if len(encoded.values) == 1 else None
    array = btf.resolve(encoded.ref) if encoded.kind == BtfKind.PTR else encoded
    return array.count if encoded.kind == BtfKind.PTR and array.kind == BtfKind.ARRAY else None


def _read_map(btf: Btf, name: str, attributes: _Attributes) -> MapDef:
    numbers, types = attributes.numbers, attributes.types
    key, value = types.get("key", 0), types.get("value", 0)
    return MapDef(
        MapSpec(
            name=name,
            type=numbers.get("type", 0),
            key_size=numbers.get("key_size", btf.size_of(key)),
            value_size=numbers.get("value_size", btf.size_of(value)),
            max_entries=numbers.get("max_entries", 0),
            pinned=numbers.get("pinning", 0) == PIN_BY_NAME,
        ),
        key,
        value,
    )
