"""Signals that end a command: it cleans up, and its exit code is 128 and the signal's number.

`run` and `list-containers` put a guard of their own (:class:`ig_py.runtime.state.SignalGuard`) in
front of this one. Nothing is imported here that reads a file: commands start with this.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from types import FrameType, TracebackType
    from typing import Any
else:
    # Its names of signals as an enumeration would take longer to import than `version` runs.
    import _signal as signal

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
EXIT_BASE = 128
"""A shell's exit code for a command that a signal ended is this and the signal's number."""
_AGAIN_SECONDS = 0.02

_received: list[int] = []


class Ended(BaseException):
    """Raised in the main thread by a signal. No KeyboardInterrupt: libraries have answers of their
    own to that, such as writing a line to a terminal that may have stopped."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = EXIT_BASE + number


def received() -> bool:
    """Has a signal asked this command to end?"""
    return bool(_received)


def note(number: int) -> None:
    """A guard in front of this one has got signal *number*."""
    _received.append(number)


class EndedBySignals:
    """While it is entered, the first of :data:`ENDING` raises :class:`Ended` in the main thread,
    and the second ends the process at once. What was ignored before (nohup(1)) stays ignored.

    Only the main thread can enter it; in others it does nothing.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._hook: Any = None

    def __enter__(self) -> None:
        _received.clear()
        self._hook = sys.unraisablehook
        try:
            for number in ENDING:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:
                    signal.signal(number, self._handle)
                    self._before[number] = before
        except ValueError:
            return
        sys.unraisablehook = self._unraisable

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        sys.unraisablehook = self._hook
        if signal.SIGALRM in self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        note(number)
        if len(_received) > 1:
            exit_now(EXIT_BASE + number)
        raise Ended(number)

    def _unraisable(self, found: sys.UnraisableHookArgs) -> None:
        # Python cannot raise in a finaliser or in an import's callback: do it again soon.
        if isinstance(found.exc_value, Ended):
            self._before.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, self._again))
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        else:
            self._hook(found)

    def _again(self, _number: int, _frame: FrameType | None) -> None:
        raise Ended(_received[0])


def exit_now(code: int) -> None:
    """End the process from a signal's handler. Temporary files go; the kernel frees the rest."""
    # Only where they are in use: a handler must not wait for an import.
    if tools := sys.modules.get("ig_py.toolchain.process"):
        tools.kill_all()
    if pins := sys.modules.get("ig_py.host.pins"):
        pins.release_all()
    if scratch := sys.modules.get("ig_py.host.scratch"):
        scratch.remove_all()
    os._exit(code)
