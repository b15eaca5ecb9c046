"""Arrays that an operator makes itself: their fields, and the samples that hold their values."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

from ig_py.errors import MetadataError
from ig_py.gadget.datasource import add_field, new_datasource
from ig_py.gadget.duration import format_duration, parse_duration
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, Kind
from ig_py.operators.base import Context
from ig_py.records import dataclass, field

INTERVAL_ANNOTATION = "fetch-interval"
SHORTEST_NS = 25_000_000
"""A shorter interval would keep a processor busy with reading."""
MAX_COUNT = 1 << 31

_CODES = {
    Kind.INT8: "b",
    Kind.INT32: "i",
    Kind.INT64: "q",
    Kind.UINT32: "I",
    Kind.UINT64: "Q",
    Kind.FLOAT64: "d",
}

Value = int | float | bytes


@dataclass(frozen=True)
class Member:
    """One field; *size* is the most bytes of a text."""

    name: str
    kind: Kind
    annotations: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    size: int = 0


class Samples:
    """Declares *members* as fields of *ds*, and packs their values."""

    def __init__(self, ds: DataSourceSpec, members: Sequence[Member]) -> None:
        self.names = [member.name for member in members]
        codes = [f"{m.size}s" if m.kind == Kind.STRING else _CODES[m.kind] for m in members]
        offset = 0
        for member, code in zip(members, codes, strict=True):
            added = add_field(
                ds, member.name, member.kind, annotations=member.annotations, tags=member.tags
            )
            size = struct.calcsize(f"={code}")
            ds.pushed[added.index] = (offset, size)
            offset += size
        self._struct = struct.Struct("=" + "".join(codes))
        ds.sample_size = offset

    def pack(self, values: Mapping[str, Value]) -> bytes:
        """One element; *values* has each member's, and may have more."""
        return self._struct.pack(*[values[name] for name in self.names])


def declare(
    ctx: Context, name: str, interval: str, defaults: Mapping[str, str] | None = None
) -> DataSourceSpec:
    """Add an array without fields that is made each *interval*; *defaults* are annotations
    that gadget.yaml may override.

    Raises MetadataError when there is a data source of that name.
    """
    if ctx.spec.datasource(name) is not None:
        raise MetadataError(f"data source {name!r} is declared twice: by an operator too")
    ds = new_datasource(
        name,
        DataSourceType.ARRAY,
        Metadata(ctx.spec.metadata),
        source="operator",
        defaults={INTERVAL_ANNOTATION: interval, **(defaults or {})},
    )
    ctx.spec.datasources.append(ds)
    return ds


@dataclass(frozen=True)
class Pace:
    """When an operator makes its arrays (ns); *first* None: after an interval."""

    interval: int
    first: int | None
    count: int

    def apply(self, ctx: Context, work: Callable[[], None]) -> None:
        """Have *work* done: ``count`` times (0: without end), besides the first if that is
        said to be early."""
        times = self.count
        if times and self.first is not None:
            times += 1
        ctx.every(self.interval, work, first=self.first, times=times)


def is_wanted(spec: Mapping[str, object], operator: str) -> bool:
    """Whether gadget.yaml says ``operator.<operator>.emitstats: true``."""
    return Metadata(spec).flag(["operator", operator, "emitstats"])


def pace(spec: Mapping[str, object], operator: str, default: int) -> Pace:
    """``operator.<operator>.{interval,first-interval,count}`` of gadget.yaml.

    Raises MetadataError for what is no duration or number.
    """
    metadata = Metadata(spec)
    interval = _duration(metadata, operator, "interval")
    return Pace(
        default if interval is None else interval,
        _duration(metadata, operator, "first-interval"),
        _count(metadata, operator),
    )


def _duration(metadata: Metadata, operator: str, key: str) -> int | None:
    text = metadata.text(["operator", operator, key])
    if not text:
        return None
    try:
        duration = parse_duration(text)
    except ValueError:
        duration = -1
    if duration < SHORTEST_NS:
        raise MetadataError(
            f"operator.{operator}.{key}: {text!a} is no duration from "
            f"{format_duration(SHORTEST_NS)}, such as 500ms or 3s"
        )
    return duration


def _count(metadata: Metadata, operator: str) -> int:
    text = metadata.text(["operator", operator, "count"]) or "0"
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 12 and int(text) < MAX_COUNT):
        raise MetadataError(f"operator.{operator}.count: {text!a} is no number of reports")
    return max(0, int(text))
