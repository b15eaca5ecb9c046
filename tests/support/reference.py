"""What a plan means, in plain Python: the measure of the core's pipeline (docs/plan.md).

Slow and obvious on purpose; it shares nothing with the core. One data source, samples in, bytes
out. Values: ``int``, ``bool``, ``float``, text and ``bytes`` fields as ``bytes``, arrays as lists.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from support import reference_render, reference_steps
from support.reference_text import runes

Plan = Mapping[str, Any]
Values = dict[int, Any]

_FLOATS = {"f32": "<f", "f64": "<d"}
_WIDTHS = {"bool": 1, "u8": 1, "i8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "f32": 4}
_WIDTHS |= {"u64": 8, "i64": 8, "f64": 8}


@dataclass
class World:
    """What the pipeline knows besides the samples."""

    users: dict[int, str] = field(default_factory=dict)
    groups: dict[int, str] = field(default_factory=dict)
    containers: dict[int, tuple[int, dict[str, str | int | bool]]] = field(default_factory=dict)
    """Mount namespace -> (network namespace, values), in the order they were set."""
    clock_offset_ns: int = 0
    timezone_offset_s: int = 0


@dataclass
class Outcome:
    data: bytes = b""
    received: int = 0
    emitted: int = 0
    discarded: int = 0
    malformed: int = 0


def is_array(spec: Mapping[str, Any]) -> bool:
    return bool(spec.get("array")) or spec.get("count", 1) > 1


def _fitting(kind: str, size: int) -> int:
    """Elements of an array without a count."""
    return size // _WIDTHS[kind] if kind in _WIDTHS else 1


def _scalar(kind: str, raw: bytes) -> Any:
    if kind == "bool":
        return raw != bytes(len(raw))
    if kind in _FLOATS:
        return struct.unpack(_FLOATS[kind], raw)[0]
    if kind == "char":
        return raw.split(b"\0")[0]
    if kind == "bytes":
        return raw
    return int.from_bytes(raw, "little", signed=kind.startswith("i"))


def _bit_field(spec: Mapping[str, Any], raw: bytes) -> Any:
    width = spec["bits"]
    value = int.from_bytes(raw, "little") >> spec["bit_offset"] & ((1 << width) - 1)
    if spec["kind"] == "bool":
        return value != 0
    if spec["kind"].startswith("i") and value >> (width - 1):
        value -= 1 << width
    return value


def _unset(kind: str) -> Any:
    if kind in ("str", "char", "bytes"):
        return b""
    return False if kind == "bool" else 0


def _decode(spec: Mapping[str, Any], sample: bytes) -> Any:
    kind = spec["kind"]
    if kind == "container":
        return None
    if spec.get("slot") or kind == "str":
        return _unset(kind)
    raw = sample[spec["offset"] : spec["offset"] + spec["size"]]
    if is_array(spec):
        count = spec.get("count") or _fitting(kind, spec["size"])
        step = spec["size"] // count if count else 0
        return [_scalar(kind, raw[i * step : (i + 1) * step]) for i in range(count)]
    if spec.get("bits"):
        return _bit_field(spec, raw)
    return _scalar(kind, raw)


def _compare(op: str, left: Any, right: Any) -> bool:
    comparisons: dict[str, Callable[[], bool]] = {
        "=": lambda: bool(left == right),
        "==": lambda: bool(left == right),
        "!=": lambda: bool(left != right),
        "<": lambda: bool(left < right),
        "<=": lambda: bool(left <= right),
        ">": lambda: bool(left > right),
        ">=": lambda: bool(left >= right),
    }
    return comparisons[op]()


def _holds(spec: Mapping[str, Any], rule: Mapping[str, Any], value: Any) -> bool:
    op, text = rule["op"], rule["value"]
    if op in ("~", "!~"):
        # In ig, $ matches at the end only, not before a last line feed.
        found = re.search(text.replace("$", r"\Z"), runes(value)) is not None
        return found is (op == "~")
    kind = spec["kind"]
    if kind in ("char", "str"):
        return _compare(op, value, text.encode())
    if kind == "bool":
        return _compare(op, value, text in ("true", "1"))
    if kind == "f32":
        return _compare(op, value, struct.unpack("<f", struct.pack("<f", float(text)))[0])
    return _compare(op, value, float(text) if kind == "f64" else int(text))


def run(plan: Plan, samples: list[bytes], world: World) -> Outcome:
    """Every sample through the plan's only data source."""
    (source,) = plan["datasources"]
    world.clock_offset_ns = plan["clock_offset_ns"]
    world.timezone_offset_s = plan["timezone_offset_s"]
    specs = {spec["id"]: spec for spec in source["fields"]}
    outcome = Outcome()
    for sample in samples:
        outcome.received += 1
        if len(sample) < source.get("min_size", 0):
            outcome.malformed += 1
            continue
        size = source["sample_size"]
        whole = sample[:size].ljust(size, b"\0")
        values: Values = {number: _decode(spec, whole) for number, spec in specs.items()}
        try:
            for step in source["steps"]:
                reference_steps.apply(step, specs, values, whole, world)
        except reference_steps.Refused:
            outcome.discarded += 1
            continue
        rules = source["filters"]
        if not all(_holds(specs[rule["field"]], rule, values[rule["field"]]) for rule in rules):
            outcome.discarded += 1
            continue
        outcome.emitted += 1
        outcome.data += reference_render.event(source, values)
    return outcome
