"""A thread that attaches programs to each target when it appears, and detaches when it ends.

Reading a container's files may take long: neither the container nor the threads that find
containers may wait for it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from ig_py.containers.targets import Target, Targets
from ig_py.errors import IgPyError

log = logging.getLogger(__name__)

_CHECK_SECONDS = 0.1
MAX_WAITING = 100_000
"""Changes of targets that wait for the thread; a host has far fewer containers."""


class Attachment(Protocol):
    """Programs that attach to each target; all calls come from one thread."""

    def attach(self, target: Target) -> None:
        """Attach to *target*.

        Raises:
            CoreError: The kernel refuses.
            IgPyError: The programs cannot be attached to it.
            OSError: Its namespaces or files cannot be opened.
        """

    def detach(self, target: Target) -> None:
        """Detach from *target*, which has ended, what no other target uses."""


class TargetAttacher:
    """Implements :class:`~ig_py.containers.targets.TargetSubscriber` for several attachments."""

    def __init__(self, targets: Targets, attachments: list[Attachment]) -> None:
        self._targets = targets
        self._attachments = attachments
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._work, name="ig-py-attach", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._targets.subscribe(self)

    def settle(self, seconds: float, check: Callable[[], None] = lambda: None) -> bool:
        """Wait until the changes so far are dealt with; False when that takes more than *seconds*.

        *check* is called meanwhile, and may raise to stop waiting.
        """
        done = threading.Event()
        self._put(done.set)
        end = time.monotonic() + seconds
        while not done.wait(_CHECK_SECONDS):
            check()
            if time.monotonic() > end:
                return False
        return True

    def stop(self) -> None:
        """End the thread; what is attached stays."""
        self._targets.unsubscribe(self)
        # The object is about to be closed, which detaches everything.
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        self._queue.put(None)
        self._thread.join()

    def added(self, target: Target) -> None:
        self._put(lambda: self._each(lambda a: a.attach(target), target))

    def removed(self, target: Target) -> None:
        self._put(lambda: self._each(lambda a: a.detach(target), target))

    def after(self, done: Callable[[], None]) -> None:
        self._put(done)

    def _put(self, work: Callable[[], None]) -> None:
        try:
            self._queue.put_nowait(work)
        except queue.Full:
            log.warning(
                "more than %d changes of containers wait to be dealt with: some containers are not"
                " traced",
                MAX_WAITING,
            )

    def _each(self, work: Callable[[Attachment], None], target: Target) -> None:
        from ig_py._core import CoreError

        for attachment in self._attachments:
            try:
                work(attachment)
            except CoreError as error:
                log.warning("container %a: %s", target.name, error.message)
            except (FileNotFoundError, ProcessLookupError) as error:
                # The container ended before it was attached to: no event is missing.
                log.debug("container %a: %s", target.name, error)
            except (IgPyError, OSError) as error:
                log.warning("container %a: %s", target.name, error)

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
