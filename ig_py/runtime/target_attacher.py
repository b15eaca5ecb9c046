"""A thread that attaches programs to each target, as long as the target lives.

A container is told of while its runtime still makes it: its root directory and its interfaces may
come later, and files may appear or be replaced at any time. What is not attached yet is tried
again: at short intervals while the container is made, then at growing ones.

A container's files may answer late or never (FUSE): they are looked up in threads of their own, so
that neither the container, nor those that find containers, nor other containers wait for them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeAlias

from ig_py.containers.targets import Awaited, Target, Targets
from ig_py.errors import IgPyError
from ig_py.host.reactor import Reactor
from ig_py.records import dataclass, field
from ig_py.runtime.lookups import Lookups, TooManyLookups
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
MAKING_SECONDS = 10.0
"""What is not attached after this time is told while the runtime makes the container."""

_SLOW = "its files are still being read"


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not attached to a target yet.

    ``reasons``: by label of the program; empty when all are attached and the target should be
    looked at again all the same. ``soon``: its runtime still makes it, and looking costs little.
    """

    reasons: Mapping[str, str]
    soon: bool = False


Lookup = Callable[[], Missing | None]
"""Attaches by what is in the target's files; these may never answer."""
Attempt: TypeAlias = Missing | Lookup | None

Release = Callable[[int], None]
"""Ends an attachment by the core's number of it, soon."""


class Attachment(Protocol):
    """Programs that attach to each target; all calls come from one thread, those of a
    :data:`Lookup` from others, one at a time of each target."""

    def attach(self, target: Target, *, made: bool) -> Attempt:
        """Attach to *target* what is not attached to it yet; None when nothing is left to do.

        Args:
            target: What to attach to.
            made: Its runtime has made it.

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
    """One attachment to one target. ``since`` is of the monotonic clock; ``whole``: nothing was
    missing when it was looked at last; ``told``: programs that
    were told not to be attached; ``running`` (None: no attempt is under way) and ``waiting``: what
    to call after the attempt that is under way, and after the next one."""

    attachment: Attachment
    target: Target
    since: float
    whole: bool = False
    retry: float = FIRST_RETRY_SECONDS
    reasons: Mapping[str, str] = field(default_factory=dict)
    soon: bool = False
    made: bool = False
    complete: bool = False
    ended: bool = False
    told: set[str] = field(default_factory=set)
    running: list[Callable[[], None]] | None = None
    waiting: list[Callable[[], None]] = field(default_factory=list)


class TargetAttacher:
    """Implements :class:`~ig_py.containers.targets.TargetSubscriber` for several attachments.

    *reactors*: which :meth:`start` starts and :meth:`stop` stops. The first one calls the
    attachments; they may use them.
    """

    def __init__(
        self,
        targets: Targets,
        attachments: list[Attachment],
        reactors: Sequence[Reactor],
    ) -> None:
        self._targets = targets
        self._attachments = attachments
        self._reactors = reactors
        self._reactor = reactors[0]
        self._lookups = Lookups()
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
        self._put(lambda: self._after_attempts(self._all_pursuits(), done.set, fresh=False))
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
        self._lookups.wait()
        for pursuit in self._all_pursuits():
            self._tell(pursuit)
        self._unattached.flush()

    def added(self, target: Target) -> None:
        self._put(lambda: self._begin(target))

    def removed(self, target: Target) -> None:
        self._put(lambda: self._end(target))

    def after(self, awaited: Awaited, done: Callable[[], None]) -> None:
        def last_look() -> None:
            pursuits = [
                p for p in self._all_pursuits() if awaited.includes(p.target.id, p.target.owner)
            ]
            if awaited.container_id is None:
                self._after_attempts([p for p in pursuits if p.soon], done)
                return
            # A runtime that starts a container has made it.
            for pursuit in pursuits:
                pursuit.made = True
            self._after_attempts([p for p in pursuits if not p.complete], done)

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

    def _all_pursuits(self) -> list[_Pursuit]:
        return [p for pursuits in list(self._pursuits.values()) for p in pursuits]

    # The reactor's thread.

    def _begin(self, target: Target) -> None:
        now = time.monotonic()
        pursuits = [_Pursuit(attachment, target, now) for attachment in self._attachments]
        self._pursuits[target.id] = pursuits
        for pursuit in pursuits:
            self._attempt(pursuit)

    def _end(self, target: Target) -> None:
        for pursuit in self._pursuits.pop(target.id, []):
            pursuit.ended = True
            self._tell(pursuit)
            try:
                pursuit.attachment.detach(target)
            except (IgPyError, OSError) as error:
                log.warning("container %a: %s", target.name, error)
            self._call(pursuit.waiting)
            if pursuit.running:
                self._call(pursuit.running)
        self._plan_telling()

    def _after_attempts(
        self, pursuits: list[_Pursuit], done: Callable[[], None], *, fresh: bool = True
    ) -> None:
        """Call *done* after an attempt of each of *pursuits*: one that begins from now on, or, not
        *fresh*, the last one."""
        left = len(pursuits)
        if not left:
            done()
            return

        def one_more() -> None:
            nonlocal left
            left -= 1
            if not left:
                done()

        for pursuit in pursuits:
            if fresh:
                pursuit.waiting.append(one_more)
                self._attempt(pursuit)
            elif pursuit.running is not None:
                pursuit.running.append(one_more)
            else:
                one_more()

    def _again(self, pursuit: _Pursuit) -> None:
        if not pursuit.complete:
            self._attempt(pursuit)

    def _plan(self, pursuit: _Pursuit) -> None:
        if pursuit.ended or pursuit.complete:
            return
        waited = time.monotonic() - pursuit.since
        if pursuit.soon and waited < SOON_FOR_SECONDS:
            pause = SOON_SECONDS
        else:
            pause = pursuit.retry
            pursuit.retry = min(2 * pause, MAX_RETRY_SECONDS)
        if waited < WARN_SECONDS:
            pause = min(pause, WARN_SECONDS - waited)
        self._reactor.later(pause, lambda: self._again(pursuit))

    def _attempt(self, pursuit: _Pursuit) -> None:
        """Begin one, unless one is under way: its end begins another when that is waited for."""
        if pursuit.ended or pursuit.running is not None:
            return
        pursuit.running, pursuit.waiting = pursuit.waiting, []
        target, attachment = pursuit.target, pursuit.attachment
        found = self._outcome(pursuit, partial(attachment.attach, target, made=pursuit.made))
        if not callable(found):
            self._attempted(pursuit, found)
            return
        lookup = found

        def look_up() -> None:
            missing = self._outcome(pursuit, lookup)
            assert not callable(missing)
            self._reactor.soon(lambda: self._attempted(pursuit, missing))

        try:
            self._lookups.start(look_up, target.owner)
        except TooManyLookups as error:
            self._attempted(pursuit, self._all(attachment, str(error)))
            return
        running = pursuit.running
        self._reactor.later(WARN_SECONDS, lambda: self._slow(pursuit, running))

    def _slow(self, pursuit: _Pursuit, running: list[Callable[[], None]] | None) -> None:
        """The attempt that *running* is of may still be under way."""
        if pursuit.running is not running or pursuit.ended:
            return
        if not pursuit.whole:
            self._set(pursuit, self._all(pursuit.attachment, _SLOW))
        if pursuit.target.owner and running is not None:
            # A user can keep files from answering: no container of others waits for them.
            self._call(running)

    def _attempted(self, pursuit: _Pursuit, missing: Missing | None) -> None:
        over, pursuit.running = pursuit.running or [], None
        if pursuit.ended:
            return
        self._set(pursuit, missing)
        self._call(over)
        if pursuit.waiting:
            self._attempt(pursuit)
        elif pursuit.running is None:
            self._plan(pursuit)

    def _set(self, pursuit: _Pursuit, missing: Missing | None) -> None:
        pursuit.complete = missing is None
        pursuit.whole = missing is None or not missing.reasons
        pursuit.soon = missing is not None and missing.soon
        pursuit.reasons = missing.reasons if missing is not None else {}
        limit = MAKING_SECONDS if pursuit.soon else WARN_SECONDS
        if time.monotonic() - pursuit.since >= limit:
            self._tell(pursuit)
            self._plan_telling()

    def _outcome(self, pursuit: _Pursuit, work: Callable[[], Attempt]) -> Attempt:
        """What *work* finds; called in a lookup's thread, too."""
        from ig_py._core import CoreError

        attachment = pursuit.attachment
        try:
            return work()
        except (FileNotFoundError, ProcessLookupError):
            if pursuit.whole or (pursuit.reasons and not pursuit.soon):
                # Its end is no news about what was missing while it ran.
                return Missing(pursuit.reasons)
            return self._all(attachment, "its process ended before that")
        except CoreError as error:
            return self._all(attachment, error.message)
        except (IgPyError, OSError) as error:
            return self._all(attachment, str(error))

    def _all(self, attachment: Attachment, reason: str) -> Missing:
        return Missing(dict.fromkeys(attachment.programs, reason))

    def _call(self, callbacks: list[Callable[[], None]]) -> None:
        while callbacks:
            callbacks.pop()()

    def _tell(self, pursuit: _Pursuit) -> None:
        reasons = {p: why for p, why in pursuit.reasons.items() if p not in pursuit.told}
        if reasons:
            pursuit.told |= reasons.keys()
            self._unattached.add(pursuit.target.name, reasons)

    def _plan_telling(self) -> None:
        if self._unattached.due():
            self._reactor.later(_CHECK_SECONDS, self._unattached.flush)
