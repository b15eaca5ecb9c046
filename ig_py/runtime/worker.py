"""One piece of work in a thread of its own, whose result another thread takes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ig_py.host.files import HostReadError, read_text
from ig_py.host.latch import Latch

T = TypeVar("T")

_USER, _SYSTEM = 11, 12
"""Of what follows the name in /proc/PID/stat (proc_pid_stat(5)), in clock ticks."""


class Worker(Generic[T]):
    """Runs *work* in a thread called *name*, from now on.

    Args:
        daemon: The process may end before *work* does.

    Attributes:
        done: Set when *work* has ended.
    """

    def __init__(self, work: Callable[[], T], name: str, *, daemon: bool = False) -> None:
        self.done = Latch()
        self._work = work
        self._results: list[T] = []
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=daemon)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as err:
            self._failures.append(err)
        finally:
            self.done.set()

    def seconds(self) -> float:
        """Processor time that *work* has taken so far; 0 when it has ended."""
        try:
            stat = read_text(f"/proc/self/task/{self._thread.native_id}/stat")
        except HostReadError:
            # No descriptor is left: the work itself will tell.
            return 0.0
        found = stat.rpartition(")")[2].split()
        if len(found) <= _SYSTEM:
            return 0.0
        return (int(found[_USER]) + int(found[_SYSTEM])) / os.sysconf("SC_CLK_TCK")

    def result(self) -> T:
        """Wait for *work*; return what it returned, or raise what it raised."""
        self._thread.join()
        if self._failures:
            raise self._failures[0]
        return self._results[0]
