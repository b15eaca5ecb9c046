"""Parameters that a gadget declares: in its eBPF object, and in gadget.yaml.

An eBPF parameter is a ``const volatile`` global named by a ``gadget_param_``
marker (docs/reference/metadata.md#parameters). Deliberate differences from ``ig``: strings and
floats keep their C initialiser as default, IP and enum parameters work.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from ig_py.errors import ObjectError
from ig_py.gadget.allowance import Allowance
from ig_py.gadget.btf import Btf
from ig_py.gadget.btf_types import ENUMS, INT_CHAR, QUALIFIERS, BtfKind, Type
from ig_py.gadget.elf import Elf
from ig_py.gadget.fields import scalar_kind, shape_of
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import Kind, ParamSpec, VariableSpec
from ig_py.numbers import INTEGER_RANGES

EBPF_PREFIX = "operator.oci.ebpf."
CUSTOM_PREFIX = "custom."

_HINTS = {
    Kind.BOOL: "bool",
    Kind.INT8: "int8",
    Kind.INT16: "int16",
    Kind.INT32: "int32",
    Kind.INT64: "int64",
    Kind.UINT8: "uint8",
    Kind.UINT16: "uint16",
    Kind.UINT32: "uint32",
    Kind.UINT64: "uint64",
    Kind.FLOAT32: "float32",
    Kind.FLOAT64: "float64",
}
MAX_BYTES = 1 << 20
"""Bytes of the variables of all parameters, which a section without content may claim to have."""
_L3ENDPOINT = "gadget_l3endpoint_t"
_PROCESS = "group:Process"
# (type name, variable) -> key, title, description, tags.
_WELL_KNOWN: dict[tuple[str, str], tuple[str, str, str, tuple[str, ...]]] = {
    ("gadget_pid", "targ_pid"): (
        "pid", "Process ID", "Only events of this process ID", (_PROCESS,),
    ),
    ("gadget_tid", "targ_tid"): (
        "tid", "Thread ID", "Only events of this thread ID", (_PROCESS,),
    ),
    ("gadget_uid", "targ_uid"): (
        "uid", "UID", "Only events of processes of this user ID", (_PROCESS,),
    ),
    ("gadget_gid", "targ_gid"): (
        "gid", "GID", "Only events of processes of this group ID", (_PROCESS,),
    ),
    ("gadget_comm", "targ_comm"): (
        "comm", "Comm", "Only events of processes with this name", (_PROCESS,),
    ),
    ("bool", "collect_ustack"): (
        "collect-ustack", "Collect User Stack", "Take the user stack of each event", (_PROCESS,),
    ),
    ("bool", "collect_build_id"): (
        "collect-build-id", "Collect Build IDs",
        "Take the build IDs of the user stack's files", (_PROCESS,),
    ),
    ("bool", "collect_otel_stack"): (
        "collect-otel-stack", "", "Take stacks through the OpenTelemetry profiler (not supported)",
        (),
    ),
}  # fmt: skip

_UNSUPPORTED = {
    "collect_otel_stack": "this version cannot read the stacks of an OpenTelemetry profiler",
}
"""Variables of _WELL_KNOWN that ask for what this version does not have."""


def ebpf_params(
    elf: Elf,
    btf: Btf,
    markers: Sequence[Type],
    variables: Sequence[VariableSpec],
    metadata: Metadata,
    notes: list[str],
) -> list[ParamSpec]:
    """Parameters that an object declares.

    Args:
        markers: The variables named by markers.
        notes: Gets what the user should know.

    Raises:
        ObjectError: A parameter is no global variable, or its size is not that of its type.
        LimitError: They are too large.
    """
    by_name = {v.name: v for v in variables}
    left = Allowance(MAX_BYTES, f"reading {elf.source}", "bytes of parameters")
    for marker in markers:
        if (variable := by_name.get(marker.name)) is not None:
            left.take(variable.size)
            if not variable.section.startswith(".rodata"):
                notes.append(
                    f"parameter {marker.name!r} is not const: its value is the one that programs "
                    "begin with, and they may change it"
                )
    return [_ebpf_param(elf, btf, m, by_name.get(m.name), metadata) for m in markers]


def _ebpf_param(
    elf: Elf, btf: Btf, marker: Type, variable: VariableSpec | None, metadata: Metadata
) -> ParamSpec:
    name = marker.name
    if variable is None:
        raise ObjectError(f"reading {elf.source}: parameter {name!r} is not a global variable")
    if variable.size != btf.size_of(marker.ref):
        raise ObjectError(
            f"reading {elf.source}: parameter {name!r} has {variable.size} bytes, "
            f"its type {btf.size_of(marker.ref)}"
        )
    names = [t.name for t in btf.chain(marker.ref) if t.name]
    shape = shape_of(btf, marker.ref)
    if shape is not None:
        names = list(shape.names)
    param = ParamSpec(
        key=name,
        prefix=EBPF_PREFIX,
        variable=name,
        size=variable.size,
        type_hint=_type_hint(btf, marker.ref),
    )
    if shape is not None:
        param.signed = shape.type.signed
        if shape.type.kind in ENUMS and not shape.array:
            param.enum_values = shape.type.values
    for type_name in names:
        known = _WELL_KNOWN.get((type_name if type_name != "_Bool" else "bool", name))
        if known:
            param.key, param.title, param.description, tags = known
            param.tags = list(tags)
            param.unsupported = _UNSUPPORTED.get(name, "")
            break
    initial = _initial(elf, variable)
    configured = ""
    for path in (["params", "ebpf", name], ["ebpfParams", name]):
        if metadata.get(path) is None:
            continue
        param.key = metadata.text([*path, "key"]) or param.key
        param.description = metadata.text([*path, "description"]) or param.description
        configured = metadata.text([*path, "defaultValue"])
        break
    if param.type_hint == "string":
        param.default = configured or initial.split(b"\0", 1)[0].decode("utf-8", "replace")
    else:
        param.default = _default_text(param, initial)
    return param


def _type_hint(btf: Btf, type_id: int) -> str:
    target = btf.resolve(type_id)
    if target.kind == BtfKind.ARRAY:
        element = next(t for t in btf.chain(target.element) if t.kind not in QUALIFIERS)
        return "string" if btf.resolve(element.id).name == "char" else ""
    if target.kind == BtfKind.STRUCT and target.name == _L3ENDPOINT:
        return "ip"
    if target.kind == BtfKind.INT and target.encoding & INT_CHAR:
        return "uint8"
    if target.kind in ENUMS:
        return ""
    kind = scalar_kind(target)
    return _HINTS.get(kind, "") if kind is not None else ""


def _initial(elf: Elf, variable: VariableSpec) -> bytes:
    section = elf.section(variable.section)
    data = elf.data(section) if section else b""
    return data[variable.offset : variable.offset + variable.size].ljust(variable.size, b"\0")


def _default_text(param: ParamSpec, initial: bytes) -> str:
    hint = param.type_hint
    if hint == "bool":
        return "true" if any(initial) else "false"
    if hint in INTEGER_RANGES or param.enum_values:
        value = int.from_bytes(initial, "little", signed=param.signed)
        return param.enum_values.names.get(value) or str(value)
    if hint in ("float32", "float64"):
        (number,) = struct.unpack("<f" if hint == "float32" else "<d", initial)
        return _float_text(number, hint)
    if hint == "ip":
        return "0.0.0.0"
    return ""


def _float_text(number: float, hint: str) -> str:
    if not math.isfinite(number):
        return str(number)
    if hint == "float32":
        # The shortest decimal that gives the same single-precision number.
        for digits in range(1, 10):
            text = f"{number:.{digits}g}"
            if struct.pack("<f", float(text)) == struct.pack("<f", number):
                return text
    return repr(number).removesuffix(".0")


def custom_params(metadata: Metadata) -> list[ParamSpec]:
    """``params.custom`` of gadget.yaml (docs/reference/metadata.md#custom-parameters)."""
    result = []
    for name in metadata.mapping(["params", "custom"]):
        path = ["params", "custom", name]
        values = metadata.mapping([*path, "values"])
        if not values and metadata.get([*path, "patch"]) is None:
            continue
        result.append(
            ParamSpec(
                key=name,
                prefix=CUSTOM_PREFIX,
                default=metadata.text([*path, "defaultValue"]),
                description=metadata.text([*path, "description"]),
                alias=metadata.text([*path, "alias"]),
                possible_values=sorted(values),
            )
        )
    return result


def apply_param_defaults(params: Sequence[ParamSpec], metadata: Metadata) -> None:
    """gadget.yaml's ``paramDefaults``: full parameter name (any case) -> default."""
    defaults = metadata.mapping(["paramDefaults"])
    for param in params:
        key = param.full_name.lower()
        if key in defaults:
            param.default = metadata.text(["paramDefaults", key])
