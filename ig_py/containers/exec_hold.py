"""--hold-containers: executions of container runtimes wait until earlier containers are known.

Engines create a container in two steps (``runc create``, ``runc start``), of which the second one
lets its first program begin. Each is an execution of a runtime. It waits here until the containers
that are pending at that moment are identified and everything is attached to them, and never longer
than the deadline: a process of its own answers the kernel (docs/discovery.md#holding-runtimes).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ig_py.containers.runtime_paths import VARIABLE, keep_marked, runtime_paths
from ig_py.errors import ContainerError
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor

if TYPE_CHECKING:
    from ig_py._core import ExecHold

log = logging.getLogger(__name__)

MAX_SECONDS = 0.1
"""No runtime is ever held longer."""

Barrier = Callable[[Callable[[], None]], None]
"""Calls its argument, from any thread, once what was told before is dealt with."""


class RuntimeExecHold:
    """Holds from its construction to :meth:`close`. Works in the reactor's thread.

    *barrier*: what has to be dealt with before an execution goes on. *seconds*: the deadline.

    Raises:
        ContainerError: The kernel does not allow it, or no runtime is found.
    """

    def __init__(
        self, view: HostView, reactor: Reactor, barrier: Barrier, seconds: float = MAX_SECONDS
    ) -> None:
        self._view = view
        self._reactor = reactor
        self._barrier = barrier
        self._closed = False
        paths = runtime_paths(view)
        if not paths:
            raise ContainerError(
                "--hold-containers: there is no runtime where they usually are",
                remedy=f"give its path by the environment variable {VARIABLE}",
            )
        self._hold = self._open(paths, seconds)
        self._fd = self._hold.fileno()
        reactor.watch(self._fd, self._read)
        keep_marked(view, reactor, self._mark, lambda: not self._closed)

    def _open(self, paths: list[str], seconds: float) -> ExecHold:
        from ig_py._core import CoreError, ExecHold

        try:
            return ExecHold(paths, seconds)
        except CoreError as error:
            raise ContainerError(
                f"--hold-containers: {error.message}",
                remedy="leave it out, or run with the rights (CAP_SYS_ADMIN) on a kernel with"
                " CONFIG_FANOTIFY_ACCESS_PERMISSIONS",
            ) from error

    def account(self) -> str:
        """One line: how many executions waited, how long, and how many to the deadline."""
        found = self._hold.counts()
        held = found["released"] + found["expired"]
        mean = found["waited"] / held / 1e6 if held else 0.0
        return (
            f"{held} runtimes held ({mean:.1f} ms in the mean, {found['longest'] / 1e6:.1f} ms at"
            f" most), {found['expired']} to the deadline; {found['passed']} not held"
        )

    def close(self) -> None:
        """Release every execution; the process that answers the kernel ends. Call it before the
        reactor stops."""
        self._closed = True
        self._reactor.unwatch(self._fd)
        self._hold.close()

    # The reactor's thread.

    def _read(self) -> None:
        from ig_py._core import CoreError

        try:
            requests = self._hold.requests()
        except CoreError as error:
            if not self._closed:
                log.warning("container runtimes are not held any more: %s", error.message)
            self._closed = True
            self._reactor.unwatch(self._fd)
            return
        for serial, _pid in requests:
            self._barrier(lambda serial=serial: self._hold.release(serial))  # type: ignore[misc]

    def _mark(self, path: str) -> None:
        from ig_py._core import CoreError

        with contextlib.suppress(CoreError):
            self._hold.mark(path)
