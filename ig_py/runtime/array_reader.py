"""Reading arrays: iterators and maps are read at intervals, or when the run ends.

An iterator's annotations and a map iterator's parameters say when
(docs/reference/ebpf.md#fetching).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ig_py.errors import MetadataError, UsageError
from ig_py.gadget.duration import parse_duration
from ig_py.gadget.param_values import check_datasources, split_by_datasource
from ig_py.gadget.params import EBPF_PREFIX
from ig_py.gadget.spec import DataSourceSpec, GadgetSpec
from ig_py.records import dataclass
from ig_py.runtime.timers import next_due, wait_ms

if TYPE_CHECKING:
    from ig_py._core import Batch, Stream
    from ig_py.containers.ended_rows import EndedRows

INTERVAL = "map-fetch-interval"
COUNT = "map-fetch-count"
DEFAULT_INTERVAL = "1000ms"
SHORTEST_NS = 1_000_000
"""The shortest interval: the thread would do nothing else with a shorter one."""
MAX_COUNT = 1 << 62


@dataclass
class ReadSchedule:
    """When the array of one data source is read.

    Attributes:
        interval: Nanoseconds between two reads; 0: one read at the start if *count* is 1, else
            none.
        count: Number of reads; 0: no limit.
        at_stop: Read it once more when the run ends.
        at_stop_counts: That reading is one of *count*.
    """

    datasource: str
    interval: int
    count: int
    at_stop: bool = False
    at_stop_counts: bool = False


def read_schedules(spec: GadgetSpec, values: Mapping[str, str]) -> list[ReadSchedule]:
    """When the arrays of *spec* are read, with parameters *values* (full name → text).

    Raises:
        UsageError: A parameter is no interval or count.
        MetadataError: An annotation is no interval or count.
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
            found.append(ReadSchedule(ds.name, interval, count, at_stop, at_stop_counts=True))
    return found


def _by_datasource(
    values: Mapping[str, str], key: str, maps: list[DataSourceSpec], default: str
) -> dict[str, str]:
    common, by_name = split_by_datasource(values.get(EBPF_PREFIX + key, ""), f"--{key}")
    check_datasources(by_name, (ds.name for ds in maps), f"--{key}")
    return {ds.name: by_name.get(ds.name) or common or default for ds in maps}


def _annotated(ds: DataSourceSpec) -> ReadSchedule:
    try:
        return ReadSchedule(
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
    digits = text.removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and len(text) < 20 and int(text) <= MAX_COUNT):
        raise UsageError(f'{what}: "{text}" is no number of fetches')
    return int(text)


class ArrayReader:
    """Reads each data source's array when it is due.

    Args:
        schedules: When each data source is read.
        open_netns: Opens the network namespaces that iterators are run in; the reader closes
            the descriptors.
        sink: Gets every array.
        warn: Gets a line for each array that could not be read whole.
        ended: The namespaces whose rows are to be taken out of maps before these are due.
        clock: Monotonic time in ns.
    """

    def __init__(
        self,
        schedules: list[ReadSchedule],
        open_netns: Callable[[], list[int]],
        sink: Callable[[Batch], None],
        warn: Callable[[str], None],
        ended: Callable[[], EndedRows | None] = lambda: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._schedules = schedules
        self._open_netns = open_netns
        self._sink = sink
        self._warn = warn
        self._ended = ended
        self._clock = clock
        self._read_at: dict[str, int] = {}
        """Data source → when its last reading that took everything began."""
        self._due: dict[str, int] = {}
        self._left: dict[str, int] = {}

    def start(self) -> None:
        """Begin to count the intervals."""
        now = self._clock()
        for schedule in self._schedules:
            if schedule.interval:
                self._due[schedule.datasource] = now + schedule.interval
            elif schedule.count == 1:
                self._due[schedule.datasource] = now
            self._left[schedule.datasource] = schedule.count

    def wait_ms(self, longest: int) -> int:
        """Milliseconds until the next array is due, at most *longest*; rounded up."""
        ended = self._ended()
        taking = ended.due() if ended else None
        due = [*self._due.values(), *([] if taking is None else [taking])]
        return wait_ms(due, self._clock(), longest)

    def run(self, stream: Stream) -> None:
        """Read the arrays that are due. Intervals that passed meanwhile are not made up for."""
        for schedule in self._schedules:
            name = schedule.datasource
            due = self._due.get(name)
            if due is None or due > self._clock():
                continue
            self._read(stream, name)
            self._left[name] -= 1 if self._left[name] else 0
            if (schedule.count and not self._left[name]) or not schedule.interval:
                del self._due[name]
                continue
            self._due[name] = next_due(due, schedule.interval, self._clock())
        self._take_ended(stream)

    def _take_ended(self, stream: Stream) -> None:
        ended = self._ended()
        if ended is None:
            return
        ended.read(min(self._read_at.get(name, 0) for name in ended.maps))
        if numbers := ended.to_take():
            for schedule in self._schedules:
                name = schedule.datasource
                if name not in ended.maps or not self._is_read_again(schedule):
                    continue
                if failure := stream.take_ended(name, numbers):
                    self._warn(
                        f'data source "{name}": rows of containers that have ended were not '
                        f"taken: {failure}"
                    )
            ended.taken(numbers)

    def _is_read_again(self, schedule: ReadSchedule) -> bool:
        return schedule.datasource in self._due or self._is_read_at_stop(schedule)

    def _is_read_at_stop(self, schedule: ReadSchedule) -> bool:
        # A run that ends before it streams has read nothing.
        spent = schedule.count and not self._left.get(schedule.datasource, schedule.count)
        return schedule.at_stop and not (schedule.at_stop_counts and spent)

    def flush(self, stream: Stream) -> None:
        """Read once more, with programs detached, what asks for it (``fetch-on-stop``), unless that
        would be more readings than were asked for."""
        for schedule in self._schedules:
            name = schedule.datasource
            if self._is_read_at_stop(schedule):
                self._read(stream, name)

    def show_released(self, stream: Stream) -> None:
        """Show the elements whose container was identified after the last reading."""
        for schedule in self._schedules:
            if batch := stream.released_array(schedule.datasource):
                self._sink(batch)

    def _read(self, stream: Stream, name: str) -> None:
        namespaces = self._open_netns()
        began = self._clock()
        try:
            batch, failure = stream.read_array(name, namespaces)
        finally:
            for fd in namespaces:
                os.close(fd)
        self._sink(batch)
        if not failure:
            self._read_at[name] = began
        else:
            self._warn(f'data source "{name}" was not read whole: {failure}')
