"""Parameters of a gadget: where they are declared, and their values as bytes.

An eBPF parameter is a ``const volatile`` global named by a ``gadget_param_``
marker (docs/reference/metadata.md#parameters). Deliberate differences from ``ig``: strings and
floats keep their C initialiser as default, IP and enum parameters work.
"""

from __future__ import annotations

import ipaddress
import math
import re
import struct
from collections.abc import Sequence

from ig_py.errors import ObjectError, UsageError
from ig_py.gadget.allowance import Allowance
from ig_py.gadget.btf import ENUMS, INT_CHAR, QUALIFIERS, Btf, BtfKind, Type
from ig_py.gadget.duration import parse_duration
from ig_py.gadget.elf import Elf
from ig_py.gadget.fields import scalar_kind, shape_of
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import Kind, ParamSpec, VariableSpec

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
        "collect-otel-stack", "", "Take stacks through the OpenTelemetry profiler", (),
    ),
}  # fmt: skip

# Compiled when first used: most runs set no parameter.
_INTEGER = r"[+-]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|[0-9]+)"
_RANGES = {
    "int": (-(1 << 63), (1 << 63) - 1),
    "uint": (0, (1 << 64) - 1),
    **{f"int{n}": (-(1 << n - 1), (1 << n - 1) - 1) for n in (8, 16, 32, 64)},
    **{f"uint{n}": (0, (1 << n) - 1) for n in (8, 16, 32, 64)},
}


def ebpf_params(
    elf: Elf,
    btf: Btf,
    markers: Sequence[Type],
    variables: Sequence[VariableSpec],
    metadata: Metadata,
) -> list[ParamSpec]:
    """Parameters that an object declares. *markers* are the variables named by markers."""
    by_name = {v.name: v for v in variables}
    left = Allowance(MAX_BYTES, f"reading {elf.source}", "bytes of parameters")
    for marker in markers:
        if (variable := by_name.get(marker.name)) is not None:
            left.take(variable.size)
    return [_ebpf_param(elf, btf, m, by_name.get(m.name), metadata) for m in markers]


def _ebpf_param(
    elf: Elf, btf: Btf, marker: Type, variable: VariableSpec | None, metadata: Metadata
) -> ParamSpec:
    name = marker.name
    if variable is None or not variable.section.startswith(".rodata"):
        raise ObjectError(
            f"reading {elf.source}: parameter {name!r} is not a const volatile global variable"
        )
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
    if hint in _RANGES or param.enum_values:
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


def _bad(param: ParamSpec, text: str, why: str) -> UsageError:
    shown = text if len(text) <= 64 else text[:61] + "..."
    return UsageError(f"setting parameter {param.key!r} to {shown!r}: {why}")


def parse_int(text: str) -> int:
    """A number, decimal or with 0x, 0o or 0b.

    Raises:
        ValueError: *text* is none.
    """
    if len(text) > 70 or not re.fullmatch(_INTEGER, text, re.ASCII):
        raise ValueError(text)
    digits = text.lstrip("+-")
    return int(text, 0) if digits[1:2].isalpha() else int(text, 10)


def check_value(param: ParamSpec, text: str) -> None:
    """Check that *text* is a value of the parameter's type.

    Raises:
        UsageError: It is not.
    """
    hint = param.type_hint
    if param.possible_values and text.lower() not in (v.lower() for v in param.possible_values):
        raise _bad(param, text, f"must be one of {', '.join(param.possible_values)}")
    if hint in _RANGES:
        low, high = _RANGES[hint]
        try:
            value = parse_int(text)
        except ValueError:
            raise _bad(param, text, f"not an integer ({hint})") from None
        if not low <= value <= high:
            raise _bad(param, text, f"out of range for {hint} ({low} to {high})")
    elif hint == "bool":
        if text.lower() not in ("true", "false"):
            raise _bad(param, text, "must be true or false")
    elif hint in ("float32", "float64"):
        try:
            float(text)
        except ValueError:
            raise _bad(param, text, "not a number") from None
    elif hint == "duration":
        try:
            parse_duration(text)
        except ValueError:
            raise _bad(param, text, 'not a duration such as "500ms", "2s" or "1h30m"') from None
    elif hint == "ip":
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise _bad(param, text, "not an IP address") from None
    elif hint == "string" and param.variable:
        size = len(text.encode("utf-8", "surrogateescape"))
        if size > param.size:
            raise _bad(param, text, f"too long: {size} > {param.size} bytes")


def encode_param(param: ParamSpec, text: str) -> bytes:
    """The bytes of an eBPF parameter's variable, ``param.size`` long.

    Raises:
        UsageError: *text* is no value of the parameter's type.
    """
    check_value(param, text)
    hint = param.type_hint
    if param.enum_values:
        return _encode_enum(param, text)
    if hint in _RANGES:
        value = parse_int(text)
        return (value & ((1 << param.size * 8) - 1)).to_bytes(param.size, "little")
    if hint == "bool":
        return int(text.lower() == "true").to_bytes(param.size, "little")
    if hint in ("float32", "float64"):
        try:
            return struct.pack("<f" if hint == "float32" else "<d", float(text))
        except OverflowError:
            raise _bad(param, text, f"out of range for {hint}") from None
    if hint == "string":
        raw = text.encode("utf-8", "surrogateescape")
        return raw.ljust(param.size, b"\0")
    if hint == "ip":
        # struct gadget_l3endpoint_t: 16 bytes of address, then the version.
        address = ipaddress.ip_address(text)
        head = address.packed.ljust(16, b"\0") + bytes([address.version])
        return head.ljust(param.size, b"\0")
    raise _bad(param, text, f"variable {param.variable!r} has a type that cannot be set")


def _encode_enum(param: ParamSpec, text: str) -> bytes:
    value = param.enum_values.by_name.get(text)
    if value is None:
        try:
            value = parse_int(text)
        except ValueError:
            names = ", ".join(name for _, name in param.enum_values[:32])
            raise _bad(param, text, f"must be a number or one of {names}") from None
    bits = param.size * 8
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if param.signed else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise _bad(param, text, f"out of range ({low} to {high})")
    return (value & ((1 << bits) - 1)).to_bytes(param.size, "little")


def split_list(text: str) -> list[str]:
    """A list-typed value: comma separated, ``\\,`` and ``\\\\`` escaped, no empty last element."""
    items, current, escaped = [], "", False
    for char in text:
        if escaped:
            current += char if char in ",\\" else "\\" + char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            items.append(current)
            current = ""
        else:
            current += char
    if escaped:
        current += "\\"
    if current:
        items.append(current)
    return items


def split_by_datasource(text: str, what: str) -> tuple[str, dict[str, str]]:
    """``VALUE`` or ``ds:VALUE[,ds2:VALUE]`` → (value of all, value by data source).

    Raises:
        UsageError: Both forms are mixed.
    """
    common, by_name = "", {}
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        name, colon, value = part.partition(":")
        if colon:
            by_name[name] = value
        else:
            common = part
    if common and (by_name or len(parts) > 1):
        raise UsageError(
            f"parsing {what}: mixed values with and without specifying data source",
            remedy="give one value for all, or ds:VALUE for each",
        )
    return common, by_name
