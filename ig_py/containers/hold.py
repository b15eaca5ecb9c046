"""--hold-containers: runtimes wait until what was begun before is known.

Engines make a container in two steps, of which the second one lets its first program begin. Each
is an execution of a runtime, and waits here until the containers that are pending then are
identified and everything is attached to them. It never waits longer than the deadline: who
answers is a process of its own (docs/discovery.md).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ig_py.containers.runtimes import VARIABLE, keep_marked, runtime_paths
from ig_py.errors import ContainerError
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor

if TYPE_CHECKING:
    from ig_py._core import Gate
    from ig_py.containers.discovery import Discovery

log = logging.getLogger(__name__)

MAX_SECONDS = 0.1
"""No runtime is ever held longer."""

Barrier = Callable[[Callable[[], None]], None]
"""Calls its argument, from any thread, as soon as whoever waits may go on."""


def hold(discovery: Discovery, attached: Barrier, seconds: float) -> RuntimeHold:
    """Begin to hold for what *discovery* finds. *attached*: a barrier for what comes after.

    :raises ContainerError: as :class:`RuntimeHold`.
    """
    admission = discovery.admission
    if admission is None:
        # Whoever waits is let go when what came before has been looked at.
        return RuntimeHold(discovery.view, discovery.reactor, attached, seconds)

    def barrier(done: Callable[[], None]) -> None:
        admission.when_decided(lambda: attached(done))

    return RuntimeHold(discovery.view, admission.reactor, barrier, seconds)


class RuntimeHold:
    """Holds from the beginning to :meth:`close`. Callbacks come in the reactor's thread."""

    def __init__(
        self, view: HostView, reactor: Reactor, barrier: Barrier, seconds: float = MAX_SECONDS
    ) -> None:
        """:raises ContainerError: it cannot be done here, or there is no runtime."""
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
        self._gate = self._open(paths, seconds)
        self._fd = self._gate.fileno()
        reactor.watch(self._fd, self._read)
        keep_marked(view, reactor, self._mark, lambda: not self._closed)

    def _open(self, paths: list[str], seconds: float) -> Gate:
        from ig_py._core import CoreError, Gate

        try:
            return Gate(paths, seconds)
        except CoreError as error:
            raise ContainerError(
                f"--hold-containers: {error.message}",
                remedy="leave it out, or run with the rights (CAP_SYS_ADMIN) on a kernel with"
                " CONFIG_FANOTIFY_ACCESS_PERMISSIONS",
            ) from error

    def account(self) -> str:
        """One line: how many waited, how long, and how they went on."""
        found = self._gate.counts()
        held = found["released"] + found["expired"]
        mean = found["waited"] / held / 1e6 if held else 0.0
        return (
            f"{held} runtimes held ({mean:.1f} ms in the mean, {found['longest'] / 1e6:.1f} ms at"
            f" most), {found['expired']} to the deadline; {found['passed']} not held"
        )

    def close(self) -> None:
        """Let everybody go; the process that answers ends. Before the reactor stops."""
        self._closed = True
        self._reactor.unwatch(self._fd)
        self._gate.close()

    # The reactor's thread.

    def _read(self) -> None:
        from ig_py._core import CoreError

        try:
            requests = self._gate.requests()
        except CoreError as error:
            if not self._closed:
                log.warning("container runtimes are not held any more: %s", error.message)
            self._closed = True
            self._reactor.unwatch(self._fd)
            return
        for serial, _pid in requests:
            self._barrier(lambda serial=serial: self._gate.release(serial))  # type: ignore[misc]

    def _mark(self, path: str) -> None:
        from ig_py._core import CoreError

        with contextlib.suppress(CoreError):
            self._gate.mark(path)
