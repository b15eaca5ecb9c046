"""Fields and data sources as the plan has them (docs/plan.md)."""

from __future__ import annotations

from typing import Any

from ig_py.errors import ObjectError
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, FieldSpec, Flag, GadgetSpec, Kind

PLAN_VERSION = 1

_KINDS = {
    Kind.BOOL: "bool",
    Kind.INT8: "i8",
    Kind.INT16: "i16",
    Kind.INT32: "i32",
    Kind.INT64: "i64",
    Kind.UINT8: "u8",
    Kind.UINT16: "u16",
    Kind.UINT32: "u32",
    Kind.UINT64: "u64",
    Kind.FLOAT32: "f32",
    Kind.FLOAT64: "f64",
    Kind.STRING: "str",
    Kind.CSTRING: "char",
    Kind.BYTES: "bytes",
}


def plan_fields(ds: DataSourceSpec) -> list[dict[str, Any]]:
    """The plan's ``fields`` of a data source.

    Raises:
        ObjectError: A field has a type that the core cannot show.
    """
    parents = {f.parent for f in ds.fields if f.parent is not None}
    return [_field(ds, f, f.index in parents) for f in ds.fields]


def declaration(spec: GadgetSpec) -> dict[str, Any]:
    """A plan that only declares the data sources of *spec*.

    Raises:
        ObjectError: As :func:`plan_fields`.
    """
    return {
        "version": PLAN_VERSION,
        "clock_offset_ns": 0,
        "timezone_offset_s": 0,
        "datasources": [
            {
                "name": ds.name,
                "sample_size": ds.sample_size,
                "array": ds.type == DataSourceType.ARRAY,
                "pushed": ds.source == "operator",
                "fields": plan_fields(ds),
                "output": {"mode": "none"},
            }
            for ds in spec.datasources
        ],
    }


def _field(ds: DataSourceSpec, field: FieldSpec, is_parent: bool) -> dict[str, Any]:
    # A map's entry is its key, then its value.
    base = ds.key_size if field.payload_index == 1 and ds.source == "mapiter" else 0
    plan: dict[str, Any] = {
        "id": field.index,
        "name": field.name,
        "full_name": field.full_name,
        "parent": field.parent,
        "kind": "container",
        "offset": field.offset + base if field.flags & Flag.STATIC_MEMBER else 0,
        "size": field.size,
        "count": 1,
        "json": not field.flags & Flag.UNREFERENCED
        and field.annotations.get("json.skip") != "true",
    }
    if is_parent or field.flags & Flag.EMPTY:
        return plan
    if field.kind not in _KINDS:
        raise ObjectError(f'field "{field.full_name}" has no type that can be shown')
    plan["kind"] = _KINDS[field.kind]
    if field.array:
        plan["array"] = True
        plan["count"] = field.count
    if place := ds.pushed.get(field.index):
        plan["offset"], plan["size"] = place
        if field.kind == Kind.STRING:
            plan["kind"] = _KINDS[Kind.CSTRING]
    elif not field.flags & Flag.STATIC_MEMBER:
        plan["slot"] = True
    if field.bit_size:
        plan["bits"] = field.bit_size
        plan["bit_offset"] = field.bit_offset
    return plan
