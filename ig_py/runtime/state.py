"""The state of a run, and how it is asked to stop."""

from __future__ import annotations

import math
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from ig_py.host.latch import Latch

if TYPE_CHECKING:
    import signal
else:
    # The module signal makes an enumeration of every number, which takes 3 ms.
    import _signal as signal


class State(Enum):
    """A run moves along :data:`NEXT` only."""

    NEW = "new"
    LOADING = "loading"
    ATTACHING = "attaching"
    RUNNING = "running"
    STOPPING = "stopping"
    CLOSED = "closed"


NEXT = {
    State.NEW: {State.LOADING, State.CLOSED},
    State.LOADING: {State.ATTACHING, State.STOPPING},
    State.ATTACHING: {State.RUNNING, State.STOPPING},
    State.RUNNING: {State.STOPPING},
    State.STOPPING: {State.CLOSED},
    State.CLOSED: set(),
}


class Stopped(BaseException):
    """Raised in a run that is asked to stop before it streams. It is no failure."""


_LONGEST_POLL = 86400.0
"""Seconds; poll(2) takes milliseconds in an int."""
_MANY_SIGNALS = 4096


_signalled: list[int] = []
"""Pipes that are readable when a signal has come: one of each guard entered, the latest last."""


def wait_any(latches: Sequence[Latch], timeout: float | None = None) -> bool:
    """Wait until one is set, at most *timeout* seconds; False when none was."""
    poll = select.poll()
    for latch in latches:
        poll.register(latch, select.POLLIN)
    # The kernel may deliver a signal to any thread; Python's handler runs in the main thread only,
    # once it is awake. The pipe wakes it.
    signals = _signalled[-1:] if threading.current_thread() is threading.main_thread() else []
    for fd in signals:
        poll.register(fd, select.POLLIN)
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = _LONGEST_POLL if deadline is None else deadline - time.monotonic()
        ready = {fd for fd, _ in poll.poll(min(max(0.0, left), _LONGEST_POLL) * 1000)}
        for fd in ready.intersection(signals):
            os.read(fd, _MANY_SIGNALS)
        if ready.difference(signals):
            return True
        if deadline is not None and time.monotonic() >= deadline:
            return False


GRACE_SECONDS = 2.0
"""Longest time that a slow reader may delay the end of a run."""
SIGNAL_GRACE_SECONDS = 0.3
"""The same when a signal asks for the end, which comes within a second."""


class StopRequest(Latch):
    """Set by a signal, by the time limit, or when the reader of the output has gone.

    Callbacks of :meth:`on_stop` run once, in the thread that asks.

    Attributes:
        deadline: monotonic time, in seconds, after which no reader is waited for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: list[Callable[[], None]] = []
        self._hurried: list[Callable[[float], None]] = []
        self.deadline = math.inf

    def set(self, grace: float = GRACE_SECONDS) -> None:
        """Ask for the end, in which readers are waited for at most *grace* seconds."""
        deadline = time.monotonic() + grace
        if deadline < self.deadline:
            self.deadline = deadline
            for hurry in list(self._hurried):
                hurry(grace)
        if self:
            return
        super().set()
        for callback in list(self._callbacks):
            callback()

    def on_stop(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)
        if self:
            callback()

    def on_deadline(self, callback: Callable[[float], None]) -> None:
        """*callback* gets the seconds until :attr:`deadline`, each time that it comes nearer."""
        self._hurried.append(callback)
        if self:
            callback(self.deadline - time.monotonic())

    def check(self) -> None:
        """Return when no stop was asked for.

        Raises:
            Stopped: It was.
        """
        if self:
            raise Stopped


EXIT_SECOND_SIGNAL = 1
_AGAIN_SECONDS = 0.02
"""When to raise again what Python could not raise."""


class SignalGuard:
    """Signals ask *request* to stop; a second one exits at once with code 1.

    These are SIGINT and SIGTERM, and SIGHUP and SIGQUIT unless they are ignored (nohup(1)).
    *exit_now* ends the process with an exit code, *noted* hears of each signal.

    While :attr:`interrupting`, the first signal also raises :class:`Stopped` in
    the main thread, so that a slow registry or compiler does not delay it.
    A context manager; only the main thread may enter it.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)
    UNLESS_IGNORED = (signal.SIGHUP, signal.SIGQUIT)

    def __init__(
        self,
        request: StopRequest,
        noted: Callable[[int], None] = lambda _number: None,
        exit_now: Callable[[int], None] = os._exit,
    ) -> None:
        self._request = request
        self._noted = noted
        self._exit_now = exit_now
        self._seen = False
        self._before: dict[int, Any] = {}
        self._pipe = (-1, -1)
        self._wakeup_before = -1
        self.interrupting = True

    def __enter__(self) -> SignalGuard:
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        _signalled.append(self._pipe[0])
        self._unraisable_before = sys.unraisablehook
        sys.unraisablehook = self._unraisable
        heard = [n for n in self.UNLESS_IGNORED if signal.getsignal(n) is not signal.SIG_IGN]
        for number in (*self.SIGNALS, *heard):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if signal.SIGALRM in self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._unraisable_before
        signal.set_wakeup_fd(self._wakeup_before)
        _signalled.remove(self._pipe[0])
        for fd in self._pipe:
            os.close(fd)

    def _unraisable(self, found: sys.UnraisableHookArgs) -> None:
        # Python cannot raise in a finaliser or in a callback of the import system.
        if not isinstance(found.exc_value, Stopped):
            self._unraisable_before(found)
        elif self.interrupting:
            self._before.setdefault(
                signal.SIGALRM, signal.signal(signal.SIGALRM, lambda *_: self._interrupt())
            )
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._noted(number)
        if self._seen:
            # The kernel frees programs and maps with the process.
            self._exit_now(EXIT_SECOND_SIGNAL)
        self._seen = True
        self._request.set(SIGNAL_GRACE_SECONDS)
        self._interrupt()

    def _interrupt(self) -> None:
        if self.interrupting:
            raise Stopped
