"""Strings beside numbers: times, errors, signals, sizes, modes, system calls, endpoints.

A field whose C type says what its number means gets a formatted field beside it
(docs/reference/ebpf.md#types-that-get-a-text). The source is hidden in columns unless
it has an annotation ``columns.hidden`` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from ig_py.gadget.datasource import add_field, add_formatted_field, children, hide_tree
from ig_py.gadget.spec import DataSourceSpec, FieldSpec, Flag, Kind
from ig_py.operators._names import ERRNO_NAMES, SIGNAL_NAMES
from ig_py.operators.base import Context, Operator
from ig_py.records import dataclass

RAW_SUFFIX = "_raw"
_PRIORITY = 0
_PRIORITY_L4 = 1
"""After every l3 endpoint: operators that resolve addresses come between."""


def formatted_name(source: FieldSpec, annotation: str) -> str:
    """Name of *source*'s formatted field: *annotation*'s value, else its own without ``_raw``.

    "" when it has neither: then there is no formatted field.
    """
    configured = source.annotations.get(annotation, "")
    if configured:
        return configured
    if source.name.endswith(RAW_SUFFIX) and source.name != RAW_SUFFIX:
        return source.name.removesuffix(RAW_SUFFIX)
    return ""


def is_taken(ds: DataSourceSpec, source: FieldSpec, name: str) -> bool:
    """True, with a note, when *source*'s formatted field *name* exists already."""
    parent = ds.fields[source.parent].full_name + "." if source.parent is not None else ""
    taken = ds.exact(parent + name) is not None
    if taken:
        ds.notes.append(
            f"field {source.full_name!r} of {ds.name!r} is not formatted: {parent + name!r} exists"
        )
    return taken


@dataclass(frozen=True)
class _Formatter:
    """How fields of one C type are formatted. *op*: the step, and the infix of annotations."""

    type_name: str
    op: str
    fits: Callable[[FieldSpec], bool]
    annotations: Mapping[str, str] | None = None


def _unsigned(size: int) -> Callable[[FieldSpec], bool]:
    kind = {4: Kind.UINT32, 8: Kind.UINT64}[size]
    return lambda f: f.kind == kind and not f.array


def _sized(size: int) -> Callable[[FieldSpec], bool]:
    kinds = {4: (Kind.UINT32, Kind.INT32), 8: (Kind.UINT64, Kind.INT64)}[size]
    return lambda f: f.kind in kinds and not f.array


_NUMBERS = (
    _Formatter("gadget_signal", "signal", _sized(4), {"value.one-of": SIGNAL_NAMES}),
    _Formatter(
        "gadget_errno",
        "errno",
        _unsigned(4),
        {"template": "errorString", "value.one-of": ERRNO_NAMES},
    ),
    _Formatter("gadget_syscall", "syscall", _unsigned(8)),
    _Formatter("gadget_timestamp", "timestamp", _sized(8), {"template": "timestamp"}),
    _Formatter("gadget_bytes", "bytes", _unsigned(8), {"template": "bytes"}),
    _Formatter("gadget_duration", "duration", _unsigned(8), {"template": "duration"}),
)
_FILE_NUMBERS = (
    _Formatter("gadget_file_mode", "file_mode", _unsigned(4)),
    _Formatter("gadget_file_flags", "file_flags", _unsigned(4)),
)
_L3 = "gadget_l3endpoint_t"
_L4 = "gadget_l4endpoint_t"
_ADDRESS = "gadget_ip_addr_t"


def _of_type(ds: DataSourceSpec, type_name: str) -> Iterator[FieldSpec]:
    return iter([f for f in ds.fields if f.has_type(type_name)])


def _hide_source(ds: DataSourceSpec, source: FieldSpec, default: bool = True) -> None:
    hide_tree(ds, source)
    wanted = source.annotations.get("columns.hidden")
    if not (default if wanted is None else wanted == "true"):
        source.flags &= ~Flag.HIDDEN


class Formatters(Operator):
    name: ClassVar[str] = "formatters"
    priority: ClassVar[int] = 0

    def instantiate(self, ctx: Context) -> bool:
        active = False
        for ds in ctx.spec.datasources:
            for formatter in _NUMBERS:
                active |= _add_formatted(ctx, ds, formatter)
            for type_name, add in ((_L3, _add_l3), (_L4, _add_l4)):
                for endpoint in _of_type(ds, type_name):
                    active |= add(ctx, ds, endpoint)
            for formatter in _FILE_NUMBERS:
                active |= _add_formatted(ctx, ds, formatter)
        return active


def _add_formatted(ctx: Context, ds: DataSourceSpec, formatter: _Formatter) -> bool:
    active = False
    for source in _of_type(ds, formatter.type_name):
        name = formatted_name(source, f"formatters.{formatter.op}.target")
        if not name or not formatter.fits(source) or is_taken(ds, source, name):
            continue
        formatted = add_formatted_field(ds, source, name, annotations=formatter.annotations)
        _hide_source(ds, source)
        more = {}
        if formatter.op == "timestamp":
            more["layout"] = source.annotations.get("formatters.timestamp.format") or None
        ctx.plan.add_step(
            ds.name, _PRIORITY, op=formatter.op, src=source.index, dst=formatted.index, **more
        )
        active = True
    return active


def _parts(
    ds: DataSourceSpec, endpoint: FieldSpec
) -> tuple[FieldSpec, FieldSpec, dict[str, FieldSpec]] | None:
    """(raw address, version, members by name) of an endpoint; None, with a note, for a misfit."""
    members = children(ds, endpoint)
    by_name = {f.name: f for f in members}
    addresses = [f for f in members if f.has_type(_ADDRESS)]
    version = by_name.get("version")
    if len(addresses) != 1 or version is None or not formatted_name(addresses[0], ""):
        ds.notes.append(
            f"field {endpoint.full_name!r} of {ds.name!r} is not formatted: "
            "its struct does not have the members of an endpoint"
        )
        return None
    return addresses[0], version, by_name


def _add_address(ds: DataSourceSpec, endpoint: FieldSpec, raw: FieldSpec) -> FieldSpec:
    address = add_field(
        ds, formatted_name(raw, ""), Kind.STRING, parent=endpoint, flags=Flag.HIDDEN
    )
    _hide_source(ds, endpoint, default=False)
    for field in (raw, *children(ds, raw)):
        field.flags |= Flag.UNREFERENCED
    return address


def _add_l3(ctx: Context, ds: DataSourceSpec, endpoint: FieldSpec) -> bool:
    parts = _parts(ds, endpoint)
    if parts is None:
        return False
    raw, version, _ = parts
    if is_taken(ds, raw, formatted_name(raw, "")):
        return False
    address = _add_address(ds, endpoint, raw)
    endpoint.annotations["columns.replace"] = address.full_name
    ctx.plan.add_step(
        ds.name,
        _PRIORITY,
        op="l3endpoint",
        version=version.index,
        addr_raw=raw.index,
        addr=address.index,
    )
    return True


def _add_l4(ctx: Context, ds: DataSourceSpec, endpoint: FieldSpec) -> bool:
    parts = _parts(ds, endpoint)
    if parts is None:
        return False
    raw, version, members = parts
    port, proto_raw = members.get("port"), members.get("proto_raw")
    if port is None:
        ds.notes.append(
            f"field {endpoint.full_name!r} of {ds.name!r} is not formatted: it has no port"
        )
        return False
    names = [formatted_name(raw, ""), "endpoint", *(["proto"] if proto_raw else [])]
    if any(is_taken(ds, raw, name) for name in names):
        return False
    address = _add_address(ds, endpoint, raw)
    proto = None
    if proto_raw is not None:
        proto = add_field(ds, "proto", Kind.STRING, parent=endpoint, flags=Flag.HIDDEN)
    text = add_field(
        ds,
        "endpoint",
        Kind.STRING,
        parent=endpoint,
        annotations={"json.skip": "true"},
        tags=["endpoint"],
        flags=Flag.HIDDEN,
    )
    endpoint.annotations["columns.replace"] = text.full_name
    ctx.plan.add_step(
        ds.name,
        _PRIORITY_L4,
        op="l4endpoint",
        version=version.index,
        addr_raw=raw.index,
        addr=address.index,
        port=port.index,
        proto_raw=proto_raw.index if proto_raw else None,
        proto=proto.index if proto else None,
        endpoint=text.index,
    )
    return True
