"""When arrays are fetched: iterators and maps are read at intervals, or at the end.

Iterators say it in annotations, map iterators in parameters (docs/reference/ebpf.md#fetching).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ig_py.errors import MetadataError, UsageError
from ig_py.gadget.duration import parse_duration
from ig_py.gadget.params import EBPF_PREFIX, split_by_datasource
from ig_py.gadget.spec import DataSourceSpec, GadgetSpec
from ig_py.records import dataclass

if TYPE_CHECKING:
    from ig_py._core import Batch, Stream
    from ig_py.operators.running import Timer

INTERVAL = "map-fetch-interval"
COUNT = "map-fetch-count"
DEFAULT_INTERVAL = "1000ms"
SHORTEST_NS = 1_000_000
"""A shorter interval would be a busy loop."""
MAX_COUNT = 1 << 62

NETNS_ITERATORS = frozenset({"tcp", "udp", "unix", "netlink", "ipv6_route"})
"""Iterators that see one network namespace: kernel, ``bpf_iter_init_seq_net``."""


@dataclass
class Timing:
    """Of one data source: *interval* ns between fetches and their *count* (0: no limit).

    Interval 0 is one fetch at the start if *count* is 1, else none.
    """

    datasource: str
    interval: int
    count: int
    at_stop: bool = False


def timings(spec: GadgetSpec, values: Mapping[str, str]) -> list[Timing]:
    """How the data sources of *spec* are fetched, with parameters *values*.

    :class:`UsageError` or (annotations) :class:`MetadataError` for what is no interval or count.
    """
    found = []
    maps = [ds for ds in spec.datasources if ds.source == "mapiter"]
    intervals = _by_datasource(values, INTERVAL, maps, DEFAULT_INTERVAL)
    counts = _by_datasource(values, COUNT, maps, "0")
    for ds in spec.datasources:
        if ds.source == "iter":
            found.append(_annotated(ds))
        elif ds.source == "mapiter":
            interval = _interval(intervals[ds.name], f"--{INTERVAL}")
            count = _count(counts[ds.name], f"--{COUNT}")
            if not interval and count > 1:
                raise UsageError(
                    f'--{COUNT}: data source "{ds.name}" cannot be fetched {count} times '
                    "without an interval"
                )
            at_stop = ds.annotations.get("ebpf.map.flush-on-stop") == "true"
            found.append(Timing(ds.name, interval, count, at_stop))
    return found


def _by_datasource(
    values: Mapping[str, str], key: str, maps: list[DataSourceSpec], default: str
) -> dict[str, str]:
    common, by_name = split_by_datasource(values.get(EBPF_PREFIX + key, ""), f"--{key}")
    if unknown := next((n for n in by_name if n not in {ds.name for ds in maps}), None):
        raise UsageError(f'--{key}: there is no map iterator "{unknown}"')
    return {ds.name: by_name.get(ds.name) or common or default for ds in maps}


def _annotated(ds: DataSourceSpec) -> Timing:
    try:
        return Timing(
            ds.name,
            _interval(ds.annotations.get("fetch-interval", "0"), "fetch-interval"),
            _count(ds.annotations.get("fetch-count", "1"), "fetch-count"),
            ds.annotations.get("ebpf.iter.fetch-on-stop") == "true",
        )
    except UsageError as err:
        raise MetadataError(f'data source "{ds.name}": annotation {err}') from err


def _interval(text: str, what: str) -> int:
    try:
        interval = parse_duration(text)
    except ValueError:
        raise UsageError(f'{what}: "{text}" is no duration such as 500ms, 2s or 0') from None
    if interval < 0:
        raise UsageError(f'{what}: "{text}" is negative')
    return max(interval, SHORTEST_NS) if interval else 0


def _count(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_COUNT):
        raise UsageError(f'{what}: "{text}" is no number of fetches')
    return int(text)


class Fetcher:
    """Fetches each data source when it is due; *open_netns* gives descriptors to close.

    *sink* gets every array, *warn* what a fetch could not read.
    """

    def __init__(
        self,
        timings: list[Timing],
        open_netns: Callable[[], list[int]],
        sink: Callable[[Batch], None],
        warn: Callable[[str], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._timings = timings
        self._open_netns = open_netns
        self._sink = sink
        self._warn = warn
        self._clock = clock
        self._due: dict[str, int] = {}
        self._left: dict[str, int] = {}

    def start(self) -> None:
        """From now on intervals pass."""
        now = self._clock()
        for timing in self._timings:
            if timing.interval:
                self._due[timing.datasource] = now + timing.interval
            elif timing.count == 1:
                self._due[timing.datasource] = now
            self._left[timing.datasource] = timing.count

    def wait_ms(self, longest: int) -> int:
        """Milliseconds until the next fetch, at most *longest*; rounded up."""
        return _wait_ms(self._due.values(), self._clock(), longest)

    def run(self, stream: Stream) -> None:
        """Fetch what is due. Intervals that passed meanwhile are not made up for."""
        for timing in self._timings:
            name = timing.datasource
            due = self._due.get(name)
            if due is None or due > self._clock():
                continue
            self._fetch(stream, name)
            if self._left[name] == 1 or not timing.interval:
                del self._due[name]
                continue
            self._left[name] -= 1 if self._left[name] else 0
            self._due[name] = _after(due, timing.interval, self._clock())

    def flush(self, stream: Stream) -> None:
        """The last fetch of those that want one, with programs detached."""
        for timing in self._timings:
            if timing.at_stop:
                self._fetch(stream, timing.datasource)

    def _fetch(self, stream: Stream, name: str) -> None:
        places = self._open_netns()
        try:
            batch, failure = stream.fetch(name, places)
        finally:
            for place in places:
                os.close(place)
        self._sink(batch)
        if failure:
            self._warn(f'data source "{name}" was not read whole: {failure}')


@dataclass
class _Pending:
    due: int
    left: int
    timer: Timer


class Timers:
    """Work at intervals; intervals that passed meanwhile are not made up for."""

    def __init__(
        self, timers: Sequence[Timer], clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._clock = clock
        now = clock()
        self._pending = [_Pending(now + timer.first, timer.times, timer) for timer in timers]

    def wait_ms(self, longest: int) -> int:
        """Milliseconds until the next work, at most *longest*; rounded up."""
        return _wait_ms((pending.due for pending in self._pending), self._clock(), longest)

    def run(self) -> None:
        """Do what is due."""
        for pending in list(self._pending):
            if pending.due > self._clock():
                continue
            pending.timer.work()
            if pending.left == 1:
                self._pending.remove(pending)
                continue
            pending.left -= 1 if pending.left else 0
            pending.due = _after(pending.due, pending.timer.interval, self._clock())


def _after(due: int, interval: int, now: int) -> int:
    """The first time after *now* that is a whole number of intervals after *due*."""
    return due + (max(0, now - due) // interval + 1) * interval


def _wait_ms(due: Iterable[int], now: int, longest: int) -> int:
    left = min(due, default=None)
    if left is None:
        return longest
    return max(0, min(longest, -(-(left - now) // 1_000_000)))
