"""Reading an image's artifact as a :class:`GadgetSpec`; nothing is loaded into a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ig_py.errors import MetadataError, ObjectError
from ig_py.gadget import sections
from ig_py.gadget.btf import Btf
from ig_py.gadget.custom import apply_custom
from ig_py.gadget.datasource import add_field, new_datasource
from ig_py.gadget.elf import STT_FUNC, Elf
from ig_py.gadget.fields import add_struct_fields
from ig_py.gadget.maps import read_maps
from ig_py.gadget.markers import Markers, read_markers
from ig_py.gadget.metadata import Metadata, annotate
from ig_py.gadget.packet_filters import filter_params
from ig_py.gadget.params import EBPF_PREFIX, custom_params, ebpf_params
from ig_py.gadget.room import Room
from ig_py.gadget.spec import (
    DataSourceSpec,
    DataSourceType,
    GadgetSpec,
    Kind,
    ParamSpec,
    ProgramSpec,
)
from ig_py.gadget.variables import read_programs, read_variables

if TYPE_CHECKING:
    from ig_py.oci.artifact import Artifact

_LENGTHS = frozenset({Kind.UINT8, Kind.UINT16, Kind.UINT32, Kind.UINT64})

MAX_LOSS_TABLE = 1 << 20
"""Bytes of the table of one map's losses by mount namespace."""


def ebpf_object(artifact: Artifact) -> bytes | None:
    """The image's eBPF layer; None for a gadget without one.

    Raises:
        ObjectError: There are several.
    """
    from ig_py.oci.media import EBPF_LAYER

    found = [x.data for x in artifact.layers if x.descriptor.media_type == EBPF_LAYER]
    if len(found) > 1:
        raise ObjectError(f"reading {artifact.reference}: more than one eBPF layer")
    return found[0] if found else None


def load_gadget(
    artifact: Artifact,
    *,
    name: str | None = None,
    annotate: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
) -> GadgetSpec:
    """What an artifact's metadata and eBPF object declare.

    First the custom parameters in *values* (full name -> text) patch the
    metadata, then *annotate*, elements of ``--annotate``, are merged into it.

    Raises:
        MetadataError: The metadata is malformed.
        ObjectError: The eBPF object is malformed.
        LimitError: One of them exceeds a limit.
        UsageError: An annotation or a custom parameter's value is wrong.
    """
    metadata = _metadata(artifact)
    return build_spec(
        metadata,
        ebpf_object(artifact),
        name=name or metadata.name or artifact.reference,
        source=artifact.reference,
        annotations=annotate,
        values=values,
    )


def _metadata(artifact: Artifact) -> Metadata:
    source, kept = f"metadata of {artifact.reference}", artifact.parsed
    if kept is not None and (document := kept.get(artifact.config)) is not None:
        return Metadata(document, source)
    metadata = Metadata.parse(artifact.config, source)
    if kept is not None:
        kept.put(artifact.config, metadata.raw)
    return metadata


def build_spec(
    metadata: Metadata,
    obj: bytes | None,
    *,
    name: str,
    source: str,
    annotations: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
) -> GadgetSpec:
    """As :func:`load_gadget`, from parsed metadata and an object's bytes.

    Raises:
        IgPyError: As :func:`load_gadget`.
    """
    if values:
        apply_custom(metadata, values)
    annotate(metadata, annotations)
    spec = GadgetSpec(name=name, metadata=metadata.config)
    spec.params += custom_params(metadata)
    if obj is None:
        return spec
    elf = Elf(obj, source)
    section = elf.section(".BTF")
    if section is None:
        raise ObjectError(
            f"reading {source}: the eBPF object has no BTF",
            remedy="compile it with -g and keep the .BTF section",
        )
    btf = Btf(elf.data(section), source)
    maps = read_maps(btf)
    programs = dict(read_programs(elf))
    markers = read_markers(btf, maps, programs)
    spec.has_object = True
    spec.maps = [m.spec for m in maps.values()]
    spec.variables = read_variables(elf, btf)
    spec.tracer_maps = markers.tracer_maps
    spec.targets = markers.targets
    spec.notes += markers.notes
    referred = _programs_in_maps(elf)
    spec.programs = [
        _program(n, s, metadata, spec.room, in_map=n in referred) for n, s in programs.items()
    ]
    spec.datasources = _datasources(btf, markers, metadata, spec.room)
    spec.params += ebpf_params(elf, btf, markers.params, spec.variables, metadata, spec.notes)
    for param in spec.params:
        spec.room.take_texts([param.key, param.description, param.default, param.alias])
    if any(sections.kind(p.section) in (*sections.OF_INTERFACES, "xdp") for p in spec.programs):
        spec.params.append(_interface_param())
    spec.params += filter_params(elf)
    if markers.map_iterators:
        spec.params += _map_params()
    _check_params(spec, source)
    _note_unknown(spec, metadata)
    return spec


def _programs_in_maps(elf: Elf) -> frozenset[str]:
    """Programs that the initial values of maps refer to: an array of programs for tail calls."""
    maps = elf.section(".maps")
    if maps is None:
        return frozenset()
    symbols = (r.symbol for r in elf.relocations_of(maps.index))
    return frozenset(s.name for s in symbols if s.type == STT_FUNC)


def _program(
    name: str, section: str, metadata: Metadata, room: Room, *, in_map: bool
) -> ProgramSpec:
    path = ["programs", name]
    attach_to = metadata.text([*path, "attach_to"])
    target = attach_to or section.partition("/")[2]
    disabled = sections.disables(target)
    optional = [*path, "optional"]
    fields = metadata.text_list([*path, "fields"])
    room.take_texts([attach_to], fields)
    return ProgramSpec(
        name,
        section,
        optional=metadata.flag(optional)
        or (metadata.get(optional) is None and sections.is_optional(section)),
        fields_if_absent=tuple(fields),
        attach_to="" if disabled else attach_to,
        disabled=disabled,
        in_map=in_map,
    )


def _datasources(
    btf: Btf, markers: Markers, metadata: Metadata, room: Room
) -> list[DataSourceSpec]:
    result = []
    for tracer in markers.tracers:
        ds = new_datasource(tracer.name, DataSourceType.SINGLE, metadata, room=room)
        ds.map, ds.struct, ds.sample_size = tracer.map, tracer.struct.name, tracer.struct.size
        ds.payloads = 1
        add_struct_fields(ds, btf, tracer.struct)
        _add_rest(ds)
        result.append(ds)
    for item in markers.iterators:
        ds = new_datasource(
            item.name,
            DataSourceType.ARRAY,
            metadata,
            source="iter",
            defaults={"fetch-interval": "0", "fetch-count": "1"},
            room=room,
        )
        ds.struct, ds.sample_size = item.struct.name, item.struct.size
        ds.programs = list(item.programs)
        ds.payloads = 1
        add_struct_fields(ds, btf, item.struct)
        result.append(ds)
    for topper in markers.map_iterators:
        ds = new_datasource(
            topper.name,
            DataSourceType.ARRAY,
            metadata,
            source="mapiter",
            defaults={"fetch-interval": "1s", "fetch-count": "0"},
            room=room,
        )
        ds.map, ds.struct = topper.map, topper.value.name
        ds.key_size, ds.sample_size = topper.key.size, topper.key.size + topper.value.size
        ds.payloads = 2
        add_struct_fields(ds, btf, topper.key, extra_tags=["role:key"])
        add_struct_fields(ds, btf, topper.value, payload_index=1)
        result.append(ds)
    return result


def _add_rest(ds: DataSourceSpec) -> None:
    """The field of the bytes behind the struct, where annotations name one."""
    name = ds.annotations.get("ebpf.rest.name", "")
    if not name:
        return
    if length := ds.annotations.get("ebpf.rest.len", ""):
        field = ds.field(length)
        if field is None or field.kind not in _LENGTHS or field.array:
            raise MetadataError(
                f"data source {ds.name!r}: ebpf.rest.len names {length!r}, "
                "which is no unsigned integer of the event"
            )
        ds.rest_length = field.index
    ds.rest = add_field(ds, name, Kind.BYTES).index


def _interface_param() -> ParamSpec:
    return ParamSpec(
        key="iface",
        prefix=EBPF_PREFIX,
        type_hint="string",
        title="Interface",
        description="Network interface of the host to attach to, instead of the containers'",
    )


def _map_params() -> list[ParamSpec]:
    tags = ["group:Data collection"]
    return [
        ParamSpec(
            key="map-fetch-interval",
            prefix=EBPF_PREFIX,
            default="1000ms",
            title="Map fetch interval",
            description="Time between two reads of a map, for all or as ds1:1s,ds2:2s",
            tags=tags,
        ),
        ParamSpec(
            key="map-fetch-count",
            prefix=EBPF_PREFIX,
            default="0",
            title="Map fetch count",
            description="Number of reads (0: until the end), for all or as ds1:1,ds2:2",
            tags=tags,
        ),
    ]


def _check_params(spec: GadgetSpec, source: str) -> None:
    seen: set[str] = set()
    for param in spec.params:
        if param.key in seen:
            raise MetadataError(f"reading {source}: parameter {param.key!r} is declared twice")
        seen.add(param.key)


def _note_unknown(spec: GadgetSpec, metadata: Metadata) -> None:
    """Note the programs that gadget.yaml configures and the object does not have."""
    names = {p.name.lower() for p in spec.programs}
    for name, config in metadata.mapping(["programs"]).items():
        ours: dict[str, Any] = config if isinstance(config, dict) else {}
        if name not in names and "optional" in ours:
            spec.notes.append(f"gadget.yaml: program {name!r} is not in the eBPF object")


def loss_counter(spec: GadgetSpec, map_name: str) -> dict[str, Any]:
    """Where an object counts the events that did not fit into *map_name*.

    Entries of the plan (docs/plan.md): ``loss_map`` (per-CPU array
    ``<map>_lost_samples``) or ``loss_var`` (64-bit global
    ``gadget_lost_samples_<map>``), and ``loss_table`` (global
    ``gadget_loss_table_<map>``); empty when it counts nothing.
    """
    plan: dict[str, Any] = {}
    counter = spec.map(f"{map_name}_lost_samples")
    if counter is not None and counter.value_size == 8:
        plan["loss_map"] = counter.name
    variable = spec.variable(f"gadget_lost_samples_{map_name}")
    if not plan and variable is not None and variable.size == 8:
        plan["loss_var"] = {"section": variable.section, "offset": variable.offset}
    table = spec.variable(f"gadget_loss_table_{map_name}")
    if plan and table is not None and is_loss_table(table.size):
        plan["loss_table"] = {
            "section": table.section,
            "offset": table.offset,
            "size": table.size,
        }
    return plan


def is_loss_table(size: int) -> bool:
    """Whether a variable of *size* bytes can be the table of ``gadget/loss_table.h``: slots of
    four 64-bit integers."""
    return 0 < size <= MAX_LOSS_TABLE and size % 32 == 0
