"""Data sources that an operator makes itself: their fields, and the samples with their values."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ig_py.errors import MetadataError
from ig_py.gadget.datasource import add_field, new_datasource
from ig_py.gadget.duration import parse_interval
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, GadgetSpec, Kind
from ig_py.operators.base import Context
from ig_py.records import dataclass, field

if TYPE_CHECKING:
    from ig_py.operators.running import Running

INTERVAL_ANNOTATION = "fetch-interval"
MAX_COUNT = 1 << 31

_CODES = {
    Kind.INT8: "b",
    Kind.INT32: "i",
    Kind.INT64: "q",
    Kind.UINT32: "I",
    Kind.UINT64: "Q",
    Kind.FLOAT64: "d",
}

Value = int | float | bytes | str


def described(description: str, **columns: object) -> dict[str, str]:
    """Annotations of a field: its description, and ``columns.KEY`` for each of *columns*."""
    annotations = {f"columns.{key}": str(value) for key, value in columns.items()}
    return {"description": description, **annotations}


@dataclass(frozen=True)
class Member:
    """One field of a sample; *size*: most bytes of a text."""

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
        """The sample of one element; *values* by member's name, others are ignored."""
        return self._struct.pack(*[_packable(values[name]) for name in self.names])


def _packable(value: Value) -> int | float | bytes:
    # Python decodes arguments and environment variables that are no UTF-8 to surrogates.
    return value.encode("utf-8", "replace") if isinstance(value, str) else value


def declare(
    spec: GadgetSpec, name: str, type: DataSourceType, defaults: Mapping[str, str]
) -> DataSourceSpec:
    """Add a data source without fields; *defaults* are annotations that gadget.yaml may override.

    Raises:
        MetadataError: The gadget has a data source of that name.
    """
    if spec.datasource(name) is not None:
        raise MetadataError(
            f"data source {name!r} is declared twice: by the gadget and by an operator",
            remedy="rename the gadget's data source",
        )
    ds = new_datasource(name, type, Metadata(spec.metadata), source="operator", defaults=defaults)
    spec.datasources.append(ds)
    return ds


def declare_array(
    ctx: Context, name: str, interval: str, defaults: Mapping[str, str] | None = None
) -> DataSourceSpec:
    """As :func:`declare`, an array that is made each *interval* (a duration as text).

    Raises:
        MetadataError: The gadget has a data source of that name.
    """
    given = {INTERVAL_ANNOTATION: interval, **(defaults or {})}
    return declare(ctx.spec, name, DataSourceType.ARRAY, given)


@dataclass(frozen=True)
class Pace:
    """When an operator makes its arrays.

    Attributes:
        interval: Nanoseconds between two arrays.
        first: Nanoseconds until the first one; None: one interval.
        count: Number of arrays, without a *first* one; 0: no limit.
    """

    interval: int
    first: int | None
    count: int

    def apply(self, running: Running, work: Callable[[], None]) -> None:
        """Register *work* with *running* at this pace."""
        times = self.count
        if times and self.first is not None:
            times += 1
        running.every(self.interval, work, first=self.first, times=times)


def is_wanted(spec: Mapping[str, object], operator: str) -> bool:
    """Whether gadget.yaml says ``operator.<operator>.emitstats: true``."""
    return Metadata(spec).flag(["operator", operator, "emitstats"])


def pace(spec: Mapping[str, object], operator: str, default: int) -> Pace:
    """``operator.<operator>.{interval,first-interval,count}`` of gadget.yaml.

    Raises:
        MetadataError: One of them is no duration or number.
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
    return parse_interval(text, f"operator.{operator}.{key}", MetadataError)


def _count(metadata: Metadata, operator: str) -> int:
    text = metadata.text(["operator", operator, "count"]) or "0"
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 12 and int(text) < MAX_COUNT):
        raise MetadataError(f"operator.{operator}.count: {text!a} is no number of reports")
    return max(0, int(text))
