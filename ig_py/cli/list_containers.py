"""``ig-py list-containers``: the containers there are, or each one as it comes and goes."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ig_py.cli import _container_flags as flags
from ig_py.cli import _logging, _needed_flags, _signals, _stdout, _terminal
from ig_py.errors import UsageError
from ig_py.escaping import safe
from ig_py.oci import gojson

if TYPE_CHECKING:
    from ig_py.cli._container_table import Column
    from ig_py.containers.collection import Event
    from ig_py.containers.model import Container
    from ig_py.containers.tracker import ContainerTracker
    from ig_py.runtime.state import StopRequest

LIST_SECONDS = 15.0
"""Longest wait for slow engines to list what they run."""
WAKE_SECONDS = 0.5
MAX_WAITING = 10_000
"""Events that wait for the reader of standard output."""
MODES = ("columns", "json", "yaml")
_NEEDS = (
    _needed_flags.Need(
        "timeout",
        lambda values: values["watch"] == "true",
        "a list is printed once",
        "add --watch",
    ),
)


@click.command("list-containers", help="List the containers of this host.")
@click.option("-o", "--output", default="columns", metavar="MODE", help="columns[=A,B], json, yaml")
@click.option("-w", "--watch", is_flag=True, help="Go on, and print containers as they come and go")
@click.option(
    "--timeout", default="0", callback=flags.seconds, help="Seconds to watch (0: no limit)"
)
@click.option("--host", is_flag=True, hidden=True)
@flags.selector_options
@flags.runtime_options
def command(output: str, watch: bool, timeout: float, host: bool, **values: Any) -> None:
    from ig_py.runtime.state import SignalGuard, Stopped, StopRequest

    if host:
        raise UsageError(
            "--host has no effect: containers are listed, not the host",
            remedy="leave the flag out",
        )
    given = {"watch": watch, "timeout": timeout, **values}
    _needed_flags.check_command((*_NEEDS, *_needed_flags.ENGINES), given)
    mode, columns = _mode(output)
    _terminal.queue_messages()
    _logging.route_logging()
    tracker = flags.tracker(values, flags.selector(values))
    stop = StopRequest()
    with SignalGuard(stop, _signals.note, _signals.exit_now):
        try:
            if watch:
                deadline = time.monotonic() + timeout if timeout else None
                _watch(tracker, _Watched(mode, columns), stop, deadline)
                return
            found = _listed(tracker)
        except Stopped:
            return
        finally:
            tracker.stop()
    _list(found, mode, columns)


def _listed(tracker: ContainerTracker) -> list[Container]:
    tracker.start()
    if not tracker.wait_listed(LIST_SECONDS):
        clients = tracker.discovery.engines.clients
        slow = [c.socket_path for c in clients if not c.connected and not c.error]
        _terminal.warn(f"no answer in {LIST_SECONDS:.0f} s from {', '.join(slow)}")
    if notice := tracker.nothing_selected():
        _terminal.warn(notice)
    return tracker.containers()


def _mode(output: str) -> tuple[str, list[Column]]:
    from ig_py.cli._container_table import choose

    mode, _, names = output.partition("=")
    if mode not in MODES or (names and mode != "columns"):
        raise UsageError(
            f"invalid argument '--output / -o': {output!a} output mode is not supported",
            remedy=f"give one of {', '.join(MODES)}",
        )
    return mode, choose(names)


def _list(found: list[Container], mode: str, columns: list[Column]) -> None:
    from ig_py.cli._container_table import Table, document, ordered

    found = ordered(found)
    if mode == "columns":
        table = Table(columns, _terminal.width(), safe)
        _stdout.write_lines(table.header(), *(table.row(c) for c in found))
        return
    documents = [document(container) for container in found]
    if mode == "json":
        _write_json(documents)
    else:
        _stdout.write_yaml(documents)


class _Watched:
    """Prints events, in one of the modes."""

    def __init__(self, mode: str, columns: list[Column]) -> None:
        self._mode = mode
        self._columns = columns
        self._header_due = mode == "columns"

    def __call__(self, event: Event) -> None:
        from ig_py.cli._container_table import Table, document, event_columns, seconds

        now, name = seconds(time.time_ns()), event.type.value
        if self._mode == "columns":
            columns = [*event_columns(now, name), *self._columns]
            table = Table(columns, _terminal.width(), safe)
            if self._header_due:
                self._header_due = False
                _stdout.write_lines(table.header())
            _stdout.write_lines(table.row(event.container))
            return
        item = {"timestamp": now, "event": name, "container": document(event.container)}
        if self._mode == "json":
            _write_json(item)
        else:
            _stdout.write("---\n")
            _stdout.write_yaml(item)


def _watch(
    tracker: ContainerTracker,
    show: Callable[[Event], None],
    stop: StopRequest,
    deadline: float | None,
) -> None:
    from ig_py.containers.selected_events import SelectedEvents

    events: queue.Queue[Event] = queue.Queue(MAX_WAITING)
    missed = 0

    def keep(event: Event) -> None:
        nonlocal missed
        try:
            events.put_nowait(event)
        except queue.Full:
            missed += 1

    tracker.subscribe(SelectedEvents(tracker.settings.selector.matches, keep))
    tracker.start()
    due = True
    while not stop and (deadline is None or time.monotonic() < deadline):
        if due and tracker.discovery.listed:
            due = False
            if notice := tracker.nothing_selected():
                _terminal.warn(f"{notice}; those that start later are shown")
        left = WAKE_SECONDS if deadline is None else deadline - time.monotonic()
        try:
            event = events.get(timeout=max(0.0, min(WAKE_SECONDS, left)))
        except queue.Empty:
            continue
        show(event)
        if missed:
            _terminal.warn(f"{missed} events were not shown: standard output was not read")
            missed = 0


def _write_json(value: Any) -> None:
    _stdout.write_json(gojson.dumps(value, indent="  ").decode() + "\n")
