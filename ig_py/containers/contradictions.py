"""Statements about containers that exclude each other: counted, and told of once for each kind.

Which one counts is decided where the statements meet (``speakers``, ``live``). The other one is
ignored; events that it would have selected are lost.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable

from ig_py.containers.model import Container
from ig_py.containers.speakers import Claim

log = logging.getLogger(__name__)


class Contradiction(enum.Enum):
    """Its value says what was ignored."""

    NOT_OWN = "statements of users about processes that are not theirs"
    ID = "statements that another container has the id of one that is known"
    NAMESPACE = "statements that a known container is called otherwise"
    TOO_MANY = "containers of users who have too many"


Observer = Callable[[Contradiction, Container | None, Container], None]
"""Called with the container that stays, if there is one, and the one that is ignored or ended."""


class Contradictions:
    """Thread-safe."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(Contradiction, 0)
        self._observers: list[Observer] = []
        self._lock = threading.Lock()

    def observe(self, observer: Observer) -> None:
        """Tell *observer* of those that may change which events are selected: of all but
        ``NOT_OWN``."""
        self._observers.append(observer)

    def add(
        self,
        kind: Contradiction,
        ignored: Container,
        claim: Claim,
        stays: Container | None = None,
    ) -> None:
        """*claim*: on what the *ignored* statement rested."""
        with self._lock:
            self.counts[kind] += 1
            first = self.counts[kind] == 1
        level = logging.WARNING if first else logging.DEBUG
        log.log(
            level,
            "ignored: %s (container %a, by %s)%s",
            kind.value,
            ignored.id,
            claim.speaker,
            "; more of them are counted only (-v: disagreements)" if first else "",
        )
        if kind is not Contradiction.NOT_OWN:
            for observer in self._observers:
                observer(kind, stays, ignored)
