"""What ``image inspect`` shows of an image by key (docs/reference/cli.md#explaining-images)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from ig_py.gadget.spec import ARRAY_KIND, DataSourceSpec, FieldSpec, GadgetSpec
from ig_py.records import dataclass

if TYPE_CHECKING:
    from ig_py.gadget.elf import Elf
    from ig_py.gadget.insn import Code
    from ig_py.oci.artifact import Artifact

TEXT = "text/plain"
MERMAID = "text/mermaid"
JSON = "application/json"
YAML = "text/yaml"

WASM_API_VERSION = "1"
_WASM_HOST_MODULE = "ig"


@dataclass(frozen=True)
class ExtraInfo:
    """One piece of information: its content type and its text."""

    content_type: str
    content: str


def split_reference(reference: str) -> tuple[str, str]:
    """(name, tag) of a reference as typed; the tag is ``latest`` when it has none."""
    name = reference.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        return head, tag
    return name, "latest"


def _oci(artifact: Artifact) -> dict[str, Callable[[], ExtraInfo]]:
    from ig_py.oci import gojson
    from ig_py.oci.media import CREATED

    name, tag = split_reference(artifact.reference)
    if artifact.origin != "store":
        name, tag = artifact.reference, ""
    return {
        "oci.created": lambda: ExtraInfo(TEXT, str(artifact.annotations.get(CREATED, ""))),
        "oci.digest": lambda: ExtraInfo(TEXT, artifact.config_descriptor.digest),
        "oci.manifest": lambda: ExtraInfo(JSON, gojson.dumps(artifact.manifest).decode()),
        "oci.metadata": lambda: ExtraInfo(YAML, artifact.config.decode("utf-8", "replace")),
        "oci.repository": lambda: ExtraInfo(TEXT, name),
        "oci.tag": lambda: ExtraInfo(TEXT, tag),
    }


def _json(value: Any) -> ExtraInfo:
    from ig_py.oci import gojson

    return ExtraInfo(JSON, gojson.dumps(value).decode())


def _ebpf(elf: Elf, spec: GadgetSpec) -> dict[str, Callable[[], ExtraInfo]]:
    from ig_py.inspect.program_graph import ProgramGraph

    @cache
    def code() -> Code:
        from ig_py.gadget.insn import Code

        return Code(elf)

    @cache
    def graph() -> ProgramGraph:
        return ProgramGraph(elf, code())

    def programs() -> ExtraInfo:
        from ig_py.inspect.disasm import Listing

        listing = Listing(elf, code())
        return _json(
            [
                {
                    "Section": program.section,
                    "Source": listing.source(program),
                    "SourceWithRelocation": listing.annotated(program),
                }
                for program in listing.programs()
            ]
        )

    return {
        "ebpf.flowchart": lambda: ExtraInfo(MERMAID, graph().flowchart()),
        "ebpf.maps": lambda: _json(_maps(code(), spec)),
        "ebpf.programs": programs,
        "ebpf.sections": lambda: _json([s.name for s in elf.sections]),
        "ebpf.sequence": lambda: ExtraInfo(MERMAID, graph().sequence()),
        "ebpf.variables": lambda: _json(
            [
                {"Name": v.name, "Offset": v.offset, "Size": v.size, "Map": v.section}
                for v in spec.variables
            ]
        ),
    }


def _maps(code: Code, spec: GadgetSpec) -> list[dict[str, str]]:
    from ig_py.gadget.maps import type_name
    from ig_py.inspect.program_graph import HIDDEN_MAPS

    names = [n for n in code.maps() if n not in HIDDEN_MAPS]
    types = {m.name: m.type for m in spec.maps}
    # A data section is loaded as an array of one element.
    return [{"Name": n, "Type": type_name(types[n]) if n in types else "Array"} for n in names]


def _wasm(artifact: Artifact) -> dict[str, Callable[[], ExtraInfo]]:
    from ig_py.inspect.wasm_imports import wasm_imports
    from ig_py.oci.media import WASM_LAYER

    layers = artifact.layers_of(WASM_LAYER)
    if not layers:
        return {}
    return {
        "wasm.gadgetAPIVersion": lambda: ExtraInfo(TEXT, WASM_API_VERSION),
        "wasm.upcalls": lambda: _json(
            wasm_imports(layers[0].data, _WASM_HOST_MODULE, artifact.reference)
        ),
    }


def providers(artifact: Artifact, spec: GadgetSpec) -> dict[str, Callable[[], ExtraInfo]]:
    """Key -> what computes it, keys sorted. Empty for an image without layers."""
    from ig_py.gadget.elf import Elf
    from ig_py.gadget.load import ebpf_object

    if not artifact.layers:
        return {}
    found = {**_oci(artifact), **_wasm(artifact)}
    obj = ebpf_object(artifact)
    if obj is not None:
        found |= _ebpf(Elf(obj, artifact.reference), spec)
    return dict(sorted(found.items()))


def datasources_document(spec: GadgetSpec) -> list[dict[str, Any]]:
    """Data sources by name, as ``--show-datasources`` prints them: zero values left out."""
    shown = [ds for ds in spec.datasources if not ds.unreferenced]
    return [_datasource(ds) for ds in sorted(shown, key=lambda d: d.name.encode())]


def _datasource(ds: DataSourceSpec) -> dict[str, Any]:
    document = {
        "name": ds.name,
        "type": int(ds.type),
        "fields": [_field(f) for f in ds.fields],
        "tags": list(ds.tags),
        "annotations": dict(sorted(ds.annotations.items())),
    }
    return {k: v for k, v in document.items() if v}


def _field(field: FieldSpec) -> dict[str, Any]:
    document = {
        "name": field.name,
        "fullName": field.full_name,
        "index": field.index,
        "payloadIndex": field.payload_index,
        "offs": field.offset,
        "size": field.size,
        "flags": int(field.flags),
        "kind": int(field.kind) | (ARRAY_KIND if field.array else 0),
        "tags": list(field.tags),
        "annotations": dict(sorted(field.annotations.items())),
        "parent": field.parent or 0,
        "order": field.order,
    }
    return {k: v for k, v in document.items() if v}
