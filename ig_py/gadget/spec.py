"""GadgetSpec: a gadget's declarations as pure, comparable data.

No kernel, no Linux-only import. Numbers of kinds and flags are those of
``ig`` (docs/reference/metadata.md#data-sources-and-fields), since ``image inspect
--show-datasources`` prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum, IntFlag
from typing import Any, TypeVar

from ig_py.gadget.btf_types import NO_VALUES, EnumValues
from ig_py.gadget.room import Room
from ig_py.records import dataclass, field

ARRAY_KIND = 0x10000000

_T = TypeVar("_T")


class Kind(IntEnum):
    """Value kind of a field; an array has ``array`` set beside its element kind."""

    INVALID = 0
    BOOL = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    UINT8 = 6
    UINT16 = 7
    UINT32 = 8
    UINT64 = 9
    FLOAT32 = 10
    FLOAT64 = 11
    STRING = 12
    CSTRING = 13
    BYTES = 14


class Flag(IntFlag):
    EMPTY = 1
    CONTAINER = 2
    HIDDEN = 4
    HAS_PARENT = 8
    STATIC_MEMBER = 16
    UNREFERENCED = 32


NO_FLAGS = Flag(0)


class DataSourceType(IntEnum):
    SINGLE = 1
    ARRAY = 2


@dataclass
class FieldSpec:
    """One field of a data source.

    ``index`` is its place in ``DataSourceSpec.fields`` and ``parent`` another
    field's index. ``offset`` and ``size`` (bytes) place it in the sample when
    STATIC_MEMBER is set; other fields are filled by operators. ``count`` is the
    number of elements of an array. ``bit_offset`` counts from the least
    significant bit of the ``size``-byte integer at ``offset``. ``enum_values``
    (value, name) are those of the object's enum, in declaration order, and belong to all
    fields of that enum.
    """

    name: str
    full_name: str
    index: int
    kind: Kind
    array: bool = False
    offset: int = 0
    size: int = 0
    payload_index: int = 0
    parent: int | None = None
    flags: Flag = NO_FLAGS
    order: int = 0
    tags: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    count: int = 1
    bit_offset: int = 0
    bit_size: int = 0
    enum_name: str = ""
    enum_values: Sequence[tuple[int, str]] = ()

    def has_type(self, name: str) -> bool:
        """True when the C type chain of the field contains *name*."""
        return f"type:{name}" in self.tags

    @property
    def hidden(self) -> bool:
        return bool(self.flags & Flag.HIDDEN)


@dataclass
class DataSourceSpec:
    """One stream of events: its fields and where its samples come from.

    Attributes:
        source: ``tracer``, ``iter``, ``mapiter`` or ``operator``.
        map: The kernel map of a tracer or map iterator.
        struct: Name of the C struct of its samples.
        sample_size: Bytes of that struct; of a map iterator, of key and value together.
        key_size: Bytes of a map iterator's key. Its key fields have ``payload_index`` 0 and its
            value fields 1, with offsets in the key or value.
        programs: Names of the programs of an iterator.
        field_config: The entries of gadget.yaml and ``--annotate`` about fields: lower-case full
            name -> ``{"annotations": {…}, "tags": […]}``.
            :func:`ig_py.gadget.datasource.add_field` applies them.
        notes: Remarks for the user about the data source.
        rest: Index of the field that takes the bytes behind the struct in a sample.
        rest_length: Index of the field with the number of these bytes.
        unreferenced: Another data source, made from this one, is shown instead.
        pushed: Where values are in the samples of an operator's data source: field index ->
            (offset, size) in bytes; text ends with NUL.
        room: The limits that it shares with the gadget's other data sources.
    """

    name: str
    type: DataSourceType
    source: str = "tracer"
    map: str = ""
    struct: str = ""
    sample_size: int = 0
    key_size: int = 0
    programs: list[str] = field(default_factory=list)
    fields: list[FieldSpec] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    field_config: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    payloads: int = 0
    rest: int | None = None
    rest_length: int | None = None
    unreferenced: bool = False
    pushed: dict[int, tuple[int, int]] = field(default_factory=dict)
    room: Room = field(default_factory=Room, repr=False)

    def exact(self, full_name: str) -> FieldSpec | None:
        """The field of exactly this full name."""
        return _lookup(self, "exact", self.fields, lambda f: f.full_name).get(full_name)

    def field(self, full_name: str) -> FieldSpec | None:
        """Exact full name, then case-insensitive."""
        found = self.exact(full_name)
        if found is None:
            lower = _lookup(self, "lower", self.fields, lambda f: f.full_name.lower())
            found = lower.get(full_name.lower())
        return found


@dataclass
class ParamSpec:
    """A parameter: ``prefix + key`` is its full name, ``key`` its flag.

    An eBPF parameter also names its ``variable`` and that variable's ``size``
    in bytes; ``enum_values`` (value, name) when it is an enum, ``signed`` when
    its integer is. ``unsupported``: why any other value than the default is refused.
    """

    key: str
    prefix: str = ""
    default: str = ""
    description: str = ""
    type_hint: str = ""
    title: str = ""
    alias: str = ""
    alternative_key: str = ""
    possible_values: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    value_hint: str = ""
    unsupported: str = ""
    variable: str = ""
    size: int = 0
    signed: bool = False
    enum_values: EnumValues = NO_VALUES

    @property
    def full_name(self) -> str:
        return self.prefix + self.key


@dataclass(frozen=True)
class ProgramSpec:
    """One eBPF program.

    From gadget.yaml's ``programs.<name>``: ``optional`` and
    ``fields_if_absent`` (full names of the fields that stay empty without it)
    are keys of ours, and a section with a leading ``?`` is optional too;
    ``attach_to`` overrides the target in the section name;
    ``disabled`` programs are not attached, nor loaded, unless a map's initial values refer to them
    (``in_map``): then others call them.
    """

    name: str
    section: str
    optional: bool = False
    fields_if_absent: tuple[str, ...] = ()
    attach_to: str = ""
    disabled: bool = False
    in_map: bool = False

    @property
    def loaded(self) -> bool:
        return self.in_map or not self.disabled


@dataclass(frozen=True)
class MapSpec:
    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    pinned: bool = False
    """Pinned below /sys/fs/bpf, where gadgets share it by name."""


@dataclass(frozen=True)
class VariableSpec:
    """A global of a data section; ``type_id`` is its BTF type."""

    name: str
    section: str
    offset: int
    size: int
    type_id: int = 0


@dataclass
class GadgetSpec:
    """A gadget image's meaning: metadata and what its eBPF object declares.

    ``metadata`` is gadget.yaml with lower-cased keys (see
    :class:`ig_py.gadget.metadata.Metadata`), ``--annotate`` merged in.
    ``targets`` maps a program to the map it is attached to. ``notes`` are
    remarks for the user (untrusted text: escape before printing).
    """

    name: str
    metadata: dict[str, Any]
    datasources: list[DataSourceSpec] = field(default_factory=list)
    params: list[ParamSpec] = field(default_factory=list)
    programs: list[ProgramSpec] = field(default_factory=list)
    maps: list[MapSpec] = field(default_factory=list)
    variables: list[VariableSpec] = field(default_factory=list)
    tracer_maps: list[str] = field(default_factory=list)
    targets: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    has_object: bool = False
    room: Room = field(default_factory=Room, repr=False)

    def datasource(self, name: str) -> DataSourceSpec | None:
        return _lookup(self, "datasource", self.datasources, lambda d: d.name).get(name)

    def map(self, name: str) -> MapSpec | None:
        return _lookup(self, "map", self.maps, lambda m: m.name).get(name)

    def variable(self, name: str) -> VariableSpec | None:
        return _lookup(self, "variable", self.variables, lambda v: v.name).get(name)


def _lookup(owner: object, what: str, items: list[_T], key: Callable[[_T], str]) -> dict[str, _T]:
    """The first of *items* by *key*, brought up to date: lists only grow, or are replaced.

    Without it each of an image's maps would be looked for among all of its variables.
    """
    indexes = owner.__dict__.setdefault("_indexes", {})
    index: dict[str, _T]
    of, done, index = indexes.get(what, (None, 0, {}))
    if of is not items or done > len(items):
        done, index = 0, {}
    for item in items[done:] if done < len(items) else ():
        index.setdefault(key(item), item)
    indexes[what] = (items, len(items), index)
    return index
