"""``--update-metadata``: add to gadget.yaml what the eBPF object declares.

Facts: docs/building.md#gadgetyaml.

Nothing that is there is changed, and comments, order and unknown keys stay: the file is
its author's.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from ig_py.errors import MetadataError
from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import Type
from ig_py.gadget.elf import Elf
from ig_py.gadget.maps import read_maps
from ig_py.gadget.markers import Markers, read_markers
from ig_py.gadget.variables import read_programs
from ig_py.toolchain.checks import check_param_variable, object_btf

if TYPE_CHECKING:
    from ruamel.yaml import YAML

_TOP_LEVEL = {
    "name": "TODO: name of the gadget",
    "description": "TODO: what the gadget shows",
    "homepageURL": "TODO: home page",
    "documentationURL": "TODO: page with the documentation",
    "sourceURL": "TODO: page with the source code",
}
_FIELD = "TODO: what the field means"
_PARAM = "TODO: what the parameter does"

_DESCRIBED_PARAMS = frozenset(
    {
        "targ_pid",
        "targ_tid",
        "targ_uid",
        "targ_gid",
        "targ_comm",
        "collect_ustack",
        "collect_build_id",
        "collect_otel_stack",
    }
)
"""Parameters of the API headers: runners know their flags and texts; a key would rename them."""

_LIST_ITEM = re.compile(r"^( *)- ")
_KEY = re.compile(r"^( *)[^\s#-][^#]*:\s*(#.*)?$")


def update_metadata(raw: bytes | None, source: str, obj: bytes) -> bytes:
    """The metadata file *raw* (None: a new one) completed for the eBPF object *obj*.

    *raw* must have passed :func:`ig_py.toolchain.checks.check_metadata`. It is returned as
    it is when nothing is missing.

    Raises:
        ObjectError: The object is malformed, or its markers make no sense.
        MetadataError: A parameter is not a ``const volatile`` global.
    """
    elf = Elf(obj, "eBPF object")
    btf = object_btf(elf)
    markers = read_markers(btf, read_maps(btf), dict(read_programs(elf)))

    text = (raw or b"").decode()
    yaml = _yaml(text)
    document = yaml.load(text)
    if document is None:
        document = yaml.map()
    changed = _fill_top_level(document)
    for name, structs in _datasources(markers):
        changed |= _fill_datasource(document, name, structs)
    changed |= _fill_params(document, markers, btf, source)
    if not changed and raw is not None:
        return raw
    stream = io.BytesIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _yaml(text: str) -> YAML:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16
    offset = _list_offset(text)
    yaml.indent(mapping=2, sequence=offset + 2, offset=offset)
    return yaml


def _list_offset(text: str) -> int:
    """How far the file indents list items below their key."""
    key_indent = 0
    for line in text.splitlines():
        if match := _LIST_ITEM.match(line):
            return min(max(len(match.group(1)) - key_indent, 0), 8)
        if match := _KEY.match(line):
            key_indent = len(match.group(1))
    return 2


def _datasources(markers: Markers) -> Iterator[tuple[str, list[Type]]]:
    for tracer in markers.tracers:
        yield tracer.name, [tracer.struct]
    for map_iterator in markers.map_iterators:
        yield map_iterator.name, [map_iterator.key, map_iterator.value]
    for iterator in markers.iterators:
        yield iterator.name, [iterator.struct]


def _fill_top_level(document: MutableMapping[str, Any]) -> bool:
    changed = False
    for position, (key, todo) in enumerate(_TOP_LEVEL.items()):
        if document.get(key) in (None, ""):
            if key in document:
                document[key] = todo
            else:
                document.insert(min(position, len(document)), key, todo)  # type: ignore[attr-defined]
            changed = True
    return changed


def _fill_datasource(document: MutableMapping[str, Any], name: str, structs: list[Type]) -> bool:
    # Runners look keys up without regard to case.
    top = "dataSources" if "dataSources" in document else "datasources"
    fields = _mapping(document, top, name, "fields")
    known = {key.lower() for key in fields}
    changed = False
    for struct in structs:
        for member in struct.members:
            if not member.name or member.name.startswith("__") or member.name.lower() in known:
                continue
            _mapping(fields, member.name, "annotations")["description"] = _FIELD
            changed = True
    return changed


def _fill_params(
    document: MutableMapping[str, Any], markers: Markers, btf: Btf, source: str
) -> bool:
    names = [variable.name for variable in markers.params]
    changed = False
    for name in names:
        reason = check_param_variable(btf, name)
        if reason is not None:
            raise MetadataError(f"updating {source}: {reason}")
        if name in _DESCRIBED_PARAMS:
            continue
        params = _mapping(document, "params", "ebpf")
        if name.lower() in {key.lower() for key in params}:
            continue
        param = _mapping(params, name)
        param["key"] = name
        param["defaultValue"] = ""
        param["description"] = _PARAM
        changed = True
    return changed


def _mapping(parent: MutableMapping[str, Any], *path: str) -> MutableMapping[str, Any]:
    """The mapping at *path*, made where it is missing or empty."""
    from ruamel.yaml.comments import CommentedMap

    for key in path:
        found = next((k for k in parent if k.lower() == key.lower()), key)
        if parent.get(found) is None:
            parent[found] = CommentedMap()
        parent = parent[found]
    return parent
