"""A thread that attaches programs to each target, as long as the target lives.

A container is told of while its runtime still makes it: its root directory and its interfaces may
come later, and files may appear at any time. What is not attached yet is tried again: at short
intervals while the container is made, then at growing ones.

Reading a container's files may take long: neither the container nor the threads that find
containers may wait for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ig_py.containers.targets import Target, Targets
from ig_py.errors import IgPyError
from ig_py.host.reactor import Reactor
from ig_py.records import dataclass, field
from ig_py.runtime.unattached import Unattached

log = logging.getLogger(__name__)

_CHECK_SECONDS = 0.1
MAX_WAITING = 100_000
"""Changes of targets that wait for the thread; a host has far fewer containers."""
SOON_SECONDS = 0.001
"""Between two attempts while the container is being made."""
SOON_FOR_SECONDS = 2.0
"""How long attempts follow each other that fast; containers are made in some 100 ms."""
FIRST_RETRY_SECONDS = 0.05
MAX_RETRY_SECONDS = 10.0
"""Between two attempts at most, as long as the container lives."""
WARN_SECONDS = 2.0
"""What is not attached after this time is told."""


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not attached to a target yet.

    ``reasons``: by label of the program; empty when all are attached and the target should be
    looked at again all the same. ``soon``: its runtime still makes it, and looking costs little.
    """

    reasons: Mapping[str, str]
    soon: bool = False


Release = Callable[[int], None]
"""Ends an attachment by the core's number of it, soon."""


class Attachment(Protocol):
    """Programs that attach to each target; all calls come from one thread."""

    def attach(self, target: Target) -> Missing | None:
        """Attach to *target* what is not attached to it yet; None when nothing is left to do.

        Raises:
            CoreError: The kernel refuses.
            IgPyError: The programs cannot be attached to it.
            OSError: Its namespaces or files cannot be opened.
        """

    def detach(self, target: Target) -> None:
        """Detach from *target*, which has ended, what no other target uses."""

    @property
    def programs(self) -> list[str]:
        """The labels of all its programs."""


@dataclass
class _Pursuit:
    """One attachment to one target. Times are of the monotonic clock."""

    attachment: Attachment
    target: Target
    since: float
    retry: float = FIRST_RETRY_SECONDS
    reasons: Mapping[str, str] = field(default_factory=dict)
    soon: bool = False
    complete: bool = False
    told: bool = False
    ended: bool = False


class TargetAttacher:
    """Implements :class:`~ig_py.containers.targets.TargetSubscriber` for several attachments.

    *reactors*: which :meth:`start` starts and :meth:`stop` stops. The first one calls the
    attachments; they may use them.
    """

    def __init__(
        self, targets: Targets, attachments: list[Attachment], reactors: Sequence[Reactor]
    ) -> None:
        self._targets = targets
        self._attachments = attachments
        self._reactors = reactors
        self._reactor = reactors[0]
        self._pursuits: dict[str, list[_Pursuit]] = {}
        self._unattached = Unattached()
        self._lock = threading.Lock()
        self._waiting = 0

    def start(self) -> None:
        for reactor in self._reactors:
            reactor.start()
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
        """End the thread; what is attached stays. Tells what was never attached."""
        self._targets.unsubscribe(self)
        # Changes that still wait are dropped: the object is about to be closed, which detaches
        # everything. A read of a container's file may never return: it is not waited for long.
        for reactor in self._reactors:
            reactor.stop()
        for pursuits in list(self._pursuits.values()):
            for pursuit in pursuits:
                self._tell(pursuit)
        self._unattached.flush()

    def added(self, target: Target) -> None:
        self._put(lambda: self._begin(target))

    def removed(self, target: Target) -> None:
        self._put(lambda: self._end(target))

    def after(self, done: Callable[[], None]) -> None:
        def last_look() -> None:
            # A runtime that starts a container has made it.
            for pursuits in list(self._pursuits.values()):
                for pursuit in pursuits:
                    if pursuit.soon:
                        self._attempt(pursuit)
            done()

        self._put(last_look)

    def _put(self, work: Callable[[], None]) -> None:
        with self._lock:
            full = self._waiting >= MAX_WAITING
            self._waiting += not full
        if full:
            log.warning(
                "more than %d changes of containers wait to be dealt with: some containers are not"
                " traced",
                MAX_WAITING,
            )
            return

        def counted() -> None:
            with self._lock:
                self._waiting -= 1
            work()

        self._reactor.soon(counted)

    # The reactor's thread.

    def _begin(self, target: Target) -> None:
        now = time.monotonic()
        pursuits = [_Pursuit(attachment, target, now) for attachment in self._attachments]
        self._pursuits[target.id] = pursuits
        for pursuit in pursuits:
            self._attempt(pursuit)
            self._plan(pursuit)

    def _end(self, target: Target) -> None:
        for pursuit in self._pursuits.pop(target.id, []):
            pursuit.ended = True
            self._tell(pursuit)
            try:
                pursuit.attachment.detach(target)
            except (IgPyError, OSError) as error:
                log.warning("container %a: %s", target.name, error)
        self._plan_telling()

    def _again(self, pursuit: _Pursuit) -> None:
        if pursuit.ended or pursuit.complete:
            return
        self._attempt(pursuit)
        if time.monotonic() - pursuit.since >= WARN_SECONDS:
            self._tell(pursuit)
            self._plan_telling()
        self._plan(pursuit)

    def _plan(self, pursuit: _Pursuit) -> None:
        if pursuit.ended or pursuit.complete:
            return
        waited = time.monotonic() - pursuit.since
        if pursuit.soon and waited < SOON_FOR_SECONDS:
            pause = SOON_SECONDS
        else:
            pause = pursuit.retry
            pursuit.retry = min(2 * pause, MAX_RETRY_SECONDS)
        if not pursuit.told and waited < WARN_SECONDS:
            pause = min(pause, WARN_SECONDS - waited)
        self._reactor.later(pause, lambda: self._again(pursuit))

    def _attempt(self, pursuit: _Pursuit) -> None:
        from ig_py._core import CoreError

        target, attachment = pursuit.target, pursuit.attachment
        try:
            missing = attachment.attach(target)
        except (FileNotFoundError, ProcessLookupError):
            if pursuit.reasons and not pursuit.soon:
                # Its end is no news about what was missing while it ran.
                pursuit.complete = True
                return
            missing = self._all(attachment, "its process ended before that")
        except CoreError as error:
            missing = self._all(attachment, error.message)
        except (IgPyError, OSError) as error:
            missing = self._all(attachment, str(error))
        pursuit.complete = missing is None
        pursuit.soon = missing is not None and missing.soon
        pursuit.reasons = missing.reasons if missing is not None else {}

    def _all(self, attachment: Attachment, reason: str) -> Missing:
        return Missing(dict.fromkeys(attachment.programs, reason))

    def _tell(self, pursuit: _Pursuit) -> None:
        if pursuit.reasons and not pursuit.told:
            pursuit.told = True
            self._unattached.add(pursuit.target.name, pursuit.reasons)

    def _plan_telling(self) -> None:
        if self._unattached.due():
            self._reactor.later(_CHECK_SECONDS, self._unattached.flush)
