"""Containers as ``list-containers`` prints them (docs/reference/cli.md#listing-containers)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from ig_py.containers.model import Container
from ig_py.errors import UsageError
from ig_py.oci.gojson import sorted_map
from ig_py.output.scale import Bounds, scale
from ig_py.records import dataclass

DEFAULT_WIDTH = 16
SHORT_DIGEST = 12


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, nominal width in characters, and its text for a container."""

    name: str
    cell: Callable[[Container], str]
    width: int = DEFAULT_WIDTH
    maximum: int = 0
    shown: bool = True


def _column(
    name: str, cell: Callable[[Container], str], width: int = DEFAULT_WIDTH, maximum: int = 0
) -> Column:
    return Column(name, cell, width, maximum)


def _hidden(name: str, cell: Callable[[Container], str], width: int = DEFAULT_WIDTH) -> Column:
    return Column(name, cell, width, 0, shown=False)


def _image_name(container: Container) -> str:
    name = container.runtime.image_name
    # A name that is but an id says as much by its first digits.
    return name.split(":")[-1][:SHORT_DIGEST] if "sha256" in name else name


COLUMNS = (
    _hidden("k8s.namespace", lambda c: c.k8s.namespace, 30),
    _hidden("k8s.podName", lambda c: c.k8s.pod_name, 30),
    _hidden("k8s.containerName", lambda c: c.k8s.container_name, 30),
    _hidden("k8s.labels", lambda c: ",".join(f"{k}={v}" for k, v in _labels(c).items())),
    _column("runtime.runtimeName", lambda c: c.runtime.name, 19),
    _column("runtime.containerId", lambda c: c.runtime.container_id, 13, 64),
    _column("runtime.containerName", lambda c: c.runtime.container_name, 30),
    _column("runtime.containerPid", lambda c: str(c.runtime.pid), 6),
    _column("runtime.containerImageName", _image_name),
    _column("runtime.containerImageID", lambda c: c.runtime.image_id),
    _column("runtime.containerImageDigest", lambda c: c.runtime.image_digest),
    _column("runtime.containerStartedAt", lambda c: nanoseconds(c.runtime.started_at), 35),
    _hidden("mntns", lambda c: str(c.mntns), 12),
    _hidden("netns", lambda c: str(c.netns), 12),
    _hidden("hostNetwork", lambda c: str(c.host_network).lower(), 11),
)


def choose(names: str) -> list[Column]:
    """The columns of ``-o columns=NAMES``; the usual ones when *names* is empty.

    Raises:
        UsageError: A name is not known.
    """
    if not names:
        return [column for column in COLUMNS if column.shown]
    known = {column.name.lower(): column for column in COLUMNS}
    chosen = []
    for name in names.split(","):
        column = known.get(name.strip().lower())
        if column is None:
            raise UsageError(
                f"invalid argument '--output / -o': column {name!a} does not exist",
                remedy=f"give some of {', '.join(column.name for column in COLUMNS)}",
            )
        chosen.append(column)
    return chosen


class Table:
    """Lines of text for *columns*, fitted to *width* characters; None: nothing is cut or padded.

    *safe* makes a cell fit for a terminal.
    """

    def __init__(
        self, columns: Sequence[Column], width: int | None, safe: Callable[[str], str]
    ) -> None:
        self._columns = columns
        self._safe = safe
        self._widths: list[int] | None = None
        if width is not None:
            self._widths = scale([Bounds(c.width, maximum=c.maximum) for c in columns], width)

    def header(self) -> str:
        return self._line([column.name.upper() for column in self._columns])

    def row(self, container: Container) -> str:
        return self._line([self._safe(column.cell(container)) for column in self._columns])

    def _line(self, cells: list[str]) -> str:
        if self._widths is None:
            return " ".join(cells)
        return " ".join(_fit(cell, w) for cell, w in zip(cells, self._widths, strict=True))


def event_columns(timestamp: str, event: str) -> list[Column]:
    """What ``--watch`` puts before the columns, for one event."""
    return [
        Column("timestamp", lambda _: timestamp, 20),
        Column("event", lambda _: event, 9),
    ]


def document(container: Container) -> dict[str, Any]:
    """The JSON object of a container: maps are sorted, as Go writes them."""
    found = container.to_json()
    if "podLabels" in found["k8s"]:
        found["k8s"]["podLabels"] = sorted_map(found["k8s"]["podLabels"])
    return found


def ordered(containers: Iterable[Container]) -> list[Container]:
    """By runtime, then by name."""
    return sorted(containers, key=lambda c: (c.runtime.name, c.runtime.container_name))


def seconds(unix_ns: int) -> str:
    """``2026-11-23T05:50:35Z``."""
    return datetime.fromtimestamp(unix_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def nanoseconds(unix_ns: int) -> str:
    """``2026-11-23T05:48:37.560649941Z``."""
    return f"{seconds(unix_ns)[:-1]}.{unix_ns % 10**9:09d}Z"


def _labels(container: Container) -> dict[str, str]:
    return sorted_map(container.k8s.pod_labels)


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: max(width - 1, 0)] + "…"
