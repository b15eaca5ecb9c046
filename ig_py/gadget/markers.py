"""Markers: they declare what the maps, variables and programs of an object are for.

A marker is a global ``const void *`` whose name carries the message: a prefix,
then parts separated by ``___`` (docs/reference/ebpf.md#markers). All BTF types are
walked, since a marker lives only in BTF.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ig_py.errors import LimitError, ObjectError
from ig_py.gadget import sections
from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import BtfKind, Type
from ig_py.gadget.maps import HASH, PERF_EVENT_ARRAY, RINGBUF, SOCKHASH, SOCKMAP, MapDef, type_name
from ig_py.records import dataclass, field

MAX_MARKERS = 1024
SEPARATOR = "___"
_LINKAGE_GLOBAL = 1


@dataclass(frozen=True)
class Tracer:
    """Events of ``struct`` come from ring buffer or perf array ``map``."""

    name: str
    map: str
    struct: Type


@dataclass(frozen=True)
class ProgramIterator:
    """Records of ``struct`` come from reading iterator programs."""

    name: str
    struct: Type
    programs: tuple[str, ...]


@dataclass(frozen=True)
class MapIterator:
    """Records are the entries of hash ``map``."""

    name: str
    map: str
    key: Type
    value: Type


@dataclass
class Markers:
    """What the markers of one object declare, in BTF order."""

    tracers: list[Tracer] = field(default_factory=list)
    iterators: list[ProgramIterator] = field(default_factory=list)
    map_iterators: list[MapIterator] = field(default_factory=list)
    params: list[Type] = field(default_factory=list)
    tracer_maps: list[str] = field(default_factory=list)
    targets: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class _Reader:
    def __init__(self, btf: Btf, maps: Mapping[str, MapDef], programs: Mapping[str, str]) -> None:
        self.btf = btf
        self.maps = maps
        self.programs = programs
        self.found = Markers()
        self.marker = ""
        self.datasources: set[str] = set()

    def bad(self, why: str) -> ObjectError:
        return ObjectError(f"reading {self.btf.source}: marker {self.marker!r}: {why}")

    def parts(self, rest: str, at_least: int, at_most: int, form: str) -> list[str]:
        parts = rest.split(SEPARATOR)
        if not at_least <= len(parts) <= at_most or not all(parts):
            raise self.bad(f"expected the form {form}")
        return parts

    def map(self, name: str) -> MapDef:
        if name not in self.maps:
            raise self.bad(f"names map {name!r}, which the object does not have")
        return self.maps[name]

    def struct(self, name: str) -> Type:
        found = self.btf.find(name, BtfKind.STRUCT)
        if found is None:
            raise self.bad(f"names struct {name!r}, which the object's BTF does not have")
        return found

    def program(self, name: str) -> str:
        if name not in self.programs:
            raise self.bad(f"names program {name!r}, which the object does not have")
        return self.programs[name]

    def tracer(self, rest: str) -> None:
        name, map_name, struct = self.parts(rest, 3, 3, "NAME___MAP___STRUCT")
        spec = self.map(map_name).spec
        if spec.type not in (RINGBUF, PERF_EVENT_ARRAY):
            raise self.bad(
                f"map {map_name!r} is a {type_name(spec.type)}, "
                "expected a ring buffer or perf event array"
            )
        self.unique(name)
        self.found.tracers.append(Tracer(name, map_name, self.struct(struct)))

    def iterator(self, rest: str) -> None:
        form = "NAME___STRUCT___PROGRAM[___PROGRAM…]"
        name, struct, *programs = self.parts(rest, 3, 64, form)
        for program in programs:
            section = self.program(program)
            if not sections.bare(section).startswith("iter/"):
                raise self.bad(f"program {program!r} is in section {section!r}, not iter/…")
        self.unique(name)
        self.found.iterators.append(ProgramIterator(name, self.struct(struct), tuple(programs)))

    def legacy_iterator(self, rest: str) -> None:
        self.found.notes.append(
            f"marker {self.marker!r}: the prefix gadget_snapshotter_ is deprecated; "
            "use gadget_iter_"
        )
        self.iterator(rest)

    def map_iterator(self, rest: str) -> None:
        name, map_name = self.parts(rest, 2, 2, "NAME___MAP")
        definition = self.map(map_name)
        if definition.spec.type != HASH:
            raise self.bad(
                f"map {map_name!r} is a {type_name(definition.spec.type)}, expected a Hash"
            )
        types = []
        for what, type_id, size in (
            ("key", definition.key_type, definition.spec.key_size),
            ("value", definition.value_type, definition.spec.value_size),
        ):
            struct = self.btf.resolve(type_id)
            if struct.kind != BtfKind.STRUCT:
                raise self.bad(f"the {what} of map {map_name!r} is no struct")
            if struct.size != size:
                raise self.bad(
                    f"the {what} of map {map_name!r} has {size} bytes, its struct {struct.size}"
                )
            types.append(struct)
        self.unique(name)
        self.found.map_iterators.append(MapIterator(name, map_name, *types))

    def param(self, rest: str) -> None:
        variable = self.btf.find(rest, BtfKind.VAR) if rest else None
        if variable is None:
            raise self.bad(f"names variable {rest!r}, which the object does not have")
        self.found.params.append(variable)

    def tracer_map(self, rest: str) -> None:
        self.map(rest)
        self.found.tracer_maps.append(rest)

    def iter_target(self, rest: str) -> None:
        program, map_name = self.parts(rest, 2, 2, "PROGRAM___MAP")
        section = self.program(program)
        if sections.bare(section) != "iter/bpf_map_elem":
            raise self.bad(f"program {program!r} is in section {section!r}, not iter/bpf_map_elem")
        self.map(map_name)
        self.target(program, map_name)

    def socket_target(self, rest: str) -> None:
        program, map_name = self.parts(rest, 2, 2, "PROGRAM___MAP")
        section = self.program(program)
        if not sections.bare(section).startswith(("sk_skb", "sk_msg")):
            raise self.bad(f"program {program!r} is in section {section!r}, not sk_skb or sk_msg")
        if self.map(map_name).spec.type not in (SOCKMAP, SOCKHASH):
            raise self.bad(f"map {map_name!r} is neither a sockmap nor a sockhash")
        self.target(program, map_name)

    def target(self, program: str, map_name: str) -> None:
        if program in self.found.targets:
            raise self.bad(f"program {program!r} already has a target map")
        self.found.targets[program] = map_name

    def unique(self, name: str) -> None:
        if name in self.datasources:
            raise self.bad(f"data source {name!r} is already declared")
        self.datasources.add(name)

    def handlers(self) -> list[tuple[str, Callable[[str], None]]]:
        return [
            ("gadget_tracer_", self.tracer),
            ("gadget_iter_", self.iterator),
            ("gadget_snapshotter_", self.legacy_iterator),
            ("gadget_mapiter_", self.map_iterator),
            ("gadget_param_", self.param),
            ("gadget_map_tracer_", self.tracer_map),
            ("gadget_mapelem_iter_target_", self.iter_target),
            ("gadget_sk_prog_target_", self.socket_target),
        ]


def _well_typed(btf: Btf, variable: Type) -> bool:
    if variable.linkage != _LINKAGE_GLOBAL:
        return False
    pointer = btf.type(variable.ref)
    if pointer.kind != BtfKind.PTR:
        return False
    constant = btf.type(pointer.ref)
    return constant.kind == BtfKind.CONST and constant.ref == 0


def read_markers(btf: Btf, maps: Mapping[str, MapDef], programs: Mapping[str, str]) -> Markers:
    """All markers. *programs* maps a program's name to its section.

    A variable that has a marker's name but not its type is no marker.

    Raises:
        ObjectError: A marker is malformed, or names something that the object does not have.
        LimitError: There are too many markers.
    """
    reader = _Reader(btf, maps, programs)
    seen = 0
    handlers = reader.handlers()
    for variable in btf.of_kind(BtfKind.VAR, prefix="gadget_"):
        for prefix, handler in handlers:
            if not variable.name.startswith(prefix) or not _well_typed(btf, variable):
                continue
            seen += 1
            if seen > MAX_MARKERS:
                raise LimitError(f"reading {btf.source}: more than {MAX_MARKERS} markers")
            reader.marker = variable.name
            handler(variable.name.removeprefix(prefix))
    return reader.found
