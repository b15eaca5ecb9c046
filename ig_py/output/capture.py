"""The ``pcap-ng`` mode: which fields of a data source make a packet (docs/captures.md).

Packets are written by the core (docs/plan.md, ``output.capture``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ig_py.errors import MAX_LISTED, OutputError, UsageError, listed
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, FieldSpec, Kind
from ig_py.output.modes import PCAP

PAYLOAD = "pcap.payload"
TIMESTAMP = "pcap.timestamp"
LENGTH = "pcap.packet-length"
INTERFACE_KEY = "pcap.interface-key"
INTERFACE_VAR = "pcap.interface-var"

_INTEGERS = frozenset(
    {
        Kind.INT8,
        Kind.INT16,
        Kind.INT32,
        Kind.INT64,
        Kind.UINT8,
        Kind.UINT16,
        Kind.UINT32,
        Kind.UINT64,
    }
)
_OCTETS = frozenset({Kind.INT8, Kind.UINT8})


def capture(ds: DataSourceSpec) -> dict[str, Any]:
    """``output.capture`` of the plan.

    Raises:
        OutputError: *ds* has no packets.
    """
    if ds.type == DataSourceType.ARRAY:
        raise _no_capture(ds, "it has arrays, not packets")
    payload = _named(ds, PAYLOAD)
    if not _holds_bytes(ds, payload):
        raise _no_capture(ds, f"{PAYLOAD} names {payload.full_name!r}, which holds no bytes")
    timestamp = _named(ds, TIMESTAMP)
    if timestamp.array or timestamp.kind not in _INTEGERS | {Kind.STRING}:
        raise _no_capture(ds, f"{TIMESTAMP} names {timestamp.full_name!r}, which is no time")
    length = _named(ds, LENGTH)
    if length.array or length.kind not in _INTEGERS:
        raise _no_capture(ds, f"{LENGTH} names {length.full_name!r}, which is no number")
    return {
        "payload": payload.index,
        "timestamp": timestamp.index,
        "length": length.index,
        "interfaces": _interfaces(ds),
    }


def check_alone(modes: Mapping[str, str], terminal: bool) -> None:
    """Check that a capture is the only output. *modes*: by data source.

    Raises:
        UsageError: Another data source is shown too, or standard output is a *terminal*.
    """
    captures = [name for name, mode in modes.items() if mode == PCAP]
    if not captures:
        return
    shown = [name for name, mode in modes.items() if mode != "none"]
    if len(shown) > 1:
        others = [f"{name}:none" for name in shown if name != captures[0]]
        if len(others) > MAX_LISTED:
            others = ["NAME:none", "... for each of the others"]
        raise UsageError(
            f"output mode {PCAP} takes all of standard output, "
            f"but data sources {listed(shown)} are written there",
            remedy=f"{listed(captures)} can be captured, one at a time: "
            f"-o {','.join([f'{captures[0]}:{PCAP}', *others])}",
        )
    if terminal:
        raise UsageError(
            f"output mode {PCAP} is not for a terminal",
            remedy="write to a file (> packets.pcapng) or to a reader (| tcpdump -r -)",
        )


def _named(ds: DataSourceSpec, key: str) -> FieldSpec:
    name = ds.annotations.get(key, "")
    if not name:
        raise _no_capture(ds, f"annotation {key} is missing")
    field = ds.field(name)
    if field is None:
        raise _no_capture(ds, f"annotation {key} names {name!r}, which it does not have")
    return field


def _holds_bytes(ds: DataSourceSpec, field: FieldSpec) -> bool:
    if field.index == ds.rest:
        return True
    octets = field.array and field.kind in _OCTETS
    return octets or field.kind in (Kind.BYTES, Kind.CSTRING)


def _interfaces(ds: DataSourceSpec) -> list[dict[str, Any]]:
    """Fields that describe an interface first, then those that only distinguish interfaces."""
    described, keys = [], []
    for field in ds.fields:
        if name := field.annotations.get(INTERFACE_VAR, ""):
            described.append((name, field))
        elif field.annotations.get(INTERFACE_KEY) == "true":
            keys.append((field.full_name, field))
    for _name, field in described + keys:
        if field.array or field.kind not in _INTEGERS | {Kind.BOOL, Kind.STRING, Kind.CSTRING}:
            raise _no_capture(
                ds, f"the values of {field.full_name!r} cannot distinguish interfaces"
            )
    return [{"field": field.index, "name": name} for name, field in described + keys]


def _no_capture(ds: DataSourceSpec, why: str) -> OutputError:
    return OutputError(
        f'data source "{ds.name}" cannot be written as {PCAP}: {why}',
        remedy="choose another mode, such as -o json",
    )
