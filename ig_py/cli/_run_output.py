"""What a run prints: events on stdout, the account at its end on stderr."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from ig_py.cli import _terminal
from ig_py.errors import OutputError, UsageError
from ig_py.gadget.param_values import check_datasources
from ig_py.gadget.spec import DataSourceSpec, DataSourceType, GadgetSpec
from ig_py.output.capture import capture, check_alone
from ig_py.output.columns import Column, choose_columns, header, scaled
from ig_py.output.fields import split_fields
from ig_py.output.modes import PCAP, check_modes, choose_mode
from ig_py.runtime.loss import Account, LossReport, account
from ig_py.runtime.plan import DataSourceOutput

if TYPE_CHECKING:
    from ig_py._core import Counters, Writer
    from ig_py.runtime.budget import Throttled
    from ig_py.runtime.state import StopRequest

CLEAR = "cli.clear-screen-before"
CLEAR_SCREEN = b"\x1b[H\x1b[2J"
"""Cursor to the top left, then clear: the sequence that ``ig`` writes."""
FLUSH_SECONDS = 2.0
"""Longest time that a slow reader of events may delay the end of a run that no signal ended, and
that a slow reader of messages may."""
_STEP_SECONDS = 0.05
"""Between two looks at whether a signal came."""
LEAST_FLUSH_SECONDS = 0.05
"""What is left to a reader that reads, when its time was used up before."""


class RunOutput:
    """*plans* is the output part of the plan, by data source name."""

    def __init__(
        self, spec: GadgetSpec, output: str, fields: str | None, stop: StopRequest
    ) -> None:
        self._stop = stop
        self._losses = LossReport()
        self._writer: Writer | None = None
        self._headers: list[tuple[str, bytes]] = []
        self.plans: dict[str, DataSourceOutput] = {}
        wrong: dict[str, OutputError] = {}
        terminal = sys.stdout.isatty()
        shown = [ds for ds in spec.datasources if not ds.unreferenced]
        check_modes(shown, output)
        if fields is not None:
            check_datasources(split_fields(fields)[1], (ds.name for ds in shown), "--fields")
        modes = {ds.name: choose_mode(ds, output, _terminal.warn) for ds in shown}
        # A screen that is cleared for one data source loses what others have shown.
        alone = sum(mode not in (None, "none") for mode in modes.values()) == 1
        clears = terminal and alone and os.environ.get("TERM") != "dumb"
        for ds in shown:
            mode = modes[ds.name]
            if mode == PCAP:
                self.plans[ds.name] = DataSourceOutput(PCAP, capture=capture(ds))
                continue
            if mode == "text":
                self._text(ds, clears, terminal)
                continue
            if mode != "columns":
                self.plans[ds.name] = DataSourceOutput(mode or "none", terminal=terminal)
                continue
            try:
                columns = _fitted(choose_columns(ds, fields))
            except OutputError as err:
                wrong[ds.name] = err
                continue
            self._columns(ds, columns, clears)
        if fields is not None:
            _check_columns_are_shown(split_fields(fields), modes)
        check_alone({name: plan.mode for name, plan in self.plans.items()}, terminal)
        named = split_fields(fields)[1] if fields is not None else {}
        refused = [name for name in wrong if name in named or len(wrong) == len(spec.datasources)]
        if refused:
            where = f"data source {refused[0]!a}: " if refused[0] in named else ""
            raise UsageError(f"{where}{wrong[refused[0]]}")
        for name, skipped in wrong.items():
            _terminal.warn(f'{skipped}; skipping data source "{name}"')

    def _columns(self, ds: DataSourceSpec, columns: list[Column], clears: bool) -> None:
        line = header(columns)
        clears = clears and ds.annotations.get(CLEAR) == "true"
        plan = [c.plan() for c in columns]
        if ds.type != DataSourceType.ARRAY:
            self.plans[ds.name] = DataSourceOutput("columns", plan)
            self._headers.append((ds.name, line))
            return
        if clears:
            self._headers.append((ds.name, CLEAR_SCREEN + line))
        before = CLEAR_SCREEN + line if clears else line
        self.plans[ds.name] = DataSourceOutput("columns", plan, header=before.decode())

    def _text(self, ds: DataSourceSpec, clears: bool, terminal: bool) -> None:
        clears = clears and ds.annotations.get(CLEAR) == "true"
        header = CLEAR_SCREEN.decode() if clears else ""
        self.plans[ds.name] = DataSourceOutput("text", terminal=terminal, header=header)

    def start(self, queue_bytes: int) -> Writer:
        """Begin to write; headers come first. What is returned takes the batches, and keeps
        *queue_bytes* of them for a slow reader."""
        from ig_py._core import Writer

        sys.stdout.flush()
        captures = {name for name, plan in self.plans.items() if plan.mode == PCAP}
        self._writer = writer = Writer(
            sys.stdout.fileno(), self._stop.set, limit=queue_bytes, continuous=captures
        )
        self._stop.on_deadline(writer.limit_waits)
        for name, line in self._headers:
            writer.put_text(name, line)
        return writer

    def finish(
        self,
        counters: Mapping[str, Counters] | None,
        throttled: Mapping[str, Throttled],
        unseen: int = 0,
        mixed: Collection[str] = (),
    ) -> None:
        """Write what is left and print the account; *counters* is None after a failure.

        *unseen* and *mixed*: see :class:`Account`.
        """
        assert self._writer is not None
        begun = time.monotonic()
        while not self._writer.written(_STEP_SECONDS):
            deadline = max(begun + LEAST_FLUSH_SECONDS, self._stop.deadline)
            if time.monotonic() >= min(begun + FLUSH_SECONDS, deadline):
                break
        accounts = account(counters or {}, self._writer.close(0), throttled, unseen, mixed)
        self._report(accounts)
        for entry in accounts:
            _terminal.info(entry.summary())

    def account(self, counters: Mapping[str, Counters], throttled: Mapping[str, Throttled]) -> None:
        """While the run goes on: say what has been lost since last time, if anything."""
        assert self._writer is not None
        self._report(account(counters, self._writer.lost(), throttled))

    def _report(self, accounts: list[Account]) -> None:
        for record in self._losses.records(accounts):
            _terminal.record(record)

    @property
    def lossless(self) -> bool:
        """False when an event is known to be lost, or when loss is not measurable."""
        return self._losses.lossless

    def check(self) -> None:
        """See whether all output was written.

        Raises:
            OutputError: Standard output failed for another reason than its reader leaving.
        """
        assert self._writer is not None
        err = self._writer.broken
        if err is not None and err.errno != errno.EPIPE:
            raise OutputError(f"writing events to standard output: {err.strerror}")


def _check_columns_are_shown(
    fields: tuple[str | None, dict[str, str]], modes: Mapping[str, str | None]
) -> None:
    """Check that each list of ``--fields`` chooses columns of a data source that shows columns.

    Raises:
        UsageError: A list has no effect.
    """
    common, by_name = fields
    named = [name for name in by_name if modes[name] != "columns"]
    alone = bool(common and common.strip()) and "columns" not in modes.values()
    if named or alone:
        where = f"data source {named[0]!a}" if named else "the gadget"
        raise UsageError(
            f"--fields has no effect: {where} is not shown in columns",
            remedy="leave it out, or choose the output mode columns",
        )


def _fitted(columns: list[Column]) -> list[Column]:
    """The columns fitted to the terminal, when stdout is one."""
    if not sys.stdout.isatty():
        return columns
    try:
        width = os.get_terminal_size(0).columns
    except OSError:
        return columns
    return scaled(columns, width) if width > 0 else columns
