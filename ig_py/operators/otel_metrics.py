"""Metrics: sums over a data source's events, printed at an interval.

Facts: docs/reference/operators.md#metrics.

Where ``metrics.print`` is set, a data source of text is shown instead of the one that is summed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ig_py.errors import MetadataError
from ig_py.gadget.datasource import add_field, new_datasource
from ig_py.gadget.duration import parse_interval
from ig_py.gadget.metadata import Metadata
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, FieldSpec, Flag, Kind, ParamSpec
from ig_py.operators.base import Context, Operator
from ig_py.output.histogram import render
from ig_py.records import dataclass, field

if TYPE_CHECKING:
    from ig_py.operators.running import Running

PREFIX = "operator.otel-metrics."
INTERVAL = "otel-metrics-print-interval"
DEFAULT_INTERVAL = "1000ms"
PRINT = "metrics.print"
MODE = "histogram"
RENDERED = "-rendered"
TYPE = "metrics.type"
_ANNOTATIONS = {
    "cli.supported-output-modes": MODE,
    "cli.default-output-mode": MODE,
    "cli.clear-screen-before": "true",
}
_IMPLIED = (
    ("gadget_histogram_slot__u32", "histogram"),
    ("gadget_histogram_slot__u64", "histogram"),
    ("gadget_counter__u32", "counter"),
    ("gadget_counter__u64", "counter"),
    ("gadget_gauge__u32", "gauge"),
    ("gadget_gauge__u64", "gauge"),
)
_TYPES = ("key", "counter", "gauge", "histogram")


@dataclass
class Metric:
    """*index* is its field's; *name* and *unit* are printed."""

    index: int
    type: str
    name: str
    unit: str


@dataclass
class Collected:
    """The metrics of one data source.

    Attributes:
        source: Its name.
        shown: Name of the data source that shows them.
        keys: Indices of the fields by which events are grouped.
        printed: The text that was shown last.
    """

    source: str
    shown: str
    keys: list[int] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    printed: str = ""

    def plan(self) -> dict[str, Any]:
        """The plan's ``metrics``."""
        values = [{"field": m.index, "type": m.type} for m in self.metrics]
        return {"keys": self.keys, "values": values}


def metric_type(source: FieldSpec) -> str:
    """``key``, ``counter``, ``gauge`` or ``histogram``; "" for any other field.

    Raises:
        MetadataError: The annotation ``metrics.type`` has another value.
    """
    given = source.annotations.get(TYPE, "")
    if given and given not in _TYPES:
        raise MetadataError(
            f'field "{source.full_name}": annotation {TYPE} is "{given}", '
            f"expected one of {', '.join(_TYPES)}"
        )
    return given or next((kind for name, kind in _IMPLIED if source.has_type(name)), "")


def collect(ds: DataSourceSpec) -> Collected:
    """The metrics that *ds* declares.

    Raises:
        MetadataError: An annotation ``metrics.type`` has an unknown value.
    """
    found = Collected(ds.name, ds.name + RENDERED)
    for source in ds.fields:
        kind = metric_type(source)
        if not kind or source.flags & Flag.EMPTY or source.kind in (Kind.INVALID, Kind.BYTES):
            continue
        if kind == "key":
            found.keys.append(source.index)
        elif source.array == (kind == "histogram"):
            name = source.annotations.get("metrics.name") or source.full_name
            unit = source.annotations.get("metrics.unit", "")
            found.metrics.append(Metric(source.index, kind, name, unit))
        else:
            ds.notes.append(f"field {source.full_name!r} of {ds.name!r} cannot be a {kind}")
    return found


class OtelMetrics(Operator):
    name: ClassVar[str] = "otel-metrics"
    priority: ClassVar[int] = 9995

    def __init__(self) -> None:
        self._collected: list[Collected] = []
        self._interval = 0

    def instantiate(self, ctx: Context) -> bool:
        ctx.spec.params.append(
            ParamSpec(
                key=INTERVAL,
                prefix=PREFIX,
                default=DEFAULT_INTERVAL,
                title="Metrics Print Interval",
                description="Time between two prints of metrics",
                type_hint="duration",
            )
        )
        for ds in list(ctx.spec.datasources):
            if ds.annotations.get(PRINT) != "true":
                continue
            collected = collect(ds)
            if not collected.metrics:
                ds.notes.append(f"data source {ds.name!r} has no metrics to print")
                continue
            self._collected.append(collected)
            ctx.plan.metrics[ds.name] = collected.plan()
            ds.unreferenced = True
            shown = new_datasource(
                collected.shown,
                DataSourceType.SINGLE,
                Metadata(ctx.spec.metadata),
                source="operator",
                defaults={**ds.annotations, **_ANNOTATIONS},
            )
            text = add_field(shown, "text", Kind.STRING, annotations={"content-type": "text/plain"})
            shown.rest = text.index
            ctx.spec.datasources.append(shown)
        given = ctx.param(PREFIX + INTERVAL) or DEFAULT_INTERVAL
        self._interval = parse_interval(given, f"--{INTERVAL}")
        return bool(self._collected)

    def start(self, ctx: Context, running: Running) -> None:
        running.every(self._interval, lambda: self._print(running))

    def drained(self, running: Running) -> bool:
        """Print the sums once more, with the events since the last print."""
        self._print(running, unchanged=False)
        return False

    def _print(self, running: Running, *, unchanged: bool = True) -> None:
        for collected in self._collected:
            text = _text(collected, running.stream.metrics(collected.source))
            if text and (unchanged or text != collected.printed):
                collected.printed = text
                running.emit(collected.shown, [text.encode()])


def _text(collected: Collected, series: list[tuple[str, list[int | float | list[int]]]]) -> str:
    """The text of all metrics; empty before the first event."""
    if not series:
        return ""
    text = ""
    for position, metric in enumerate(collected.metrics):
        text += metric.name + "\n"
        for _keys, sums in series:
            slots = sums[position]
            if isinstance(slots, list):
                text += render(slots, metric.unit)
    return text
