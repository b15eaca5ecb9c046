"""Warnings of programs that are not attached to a container: container, program and reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ig_py.errors import listed

log = logging.getLogger(__name__)

MAX_NAMES = 10
"""Containers that one warning names; the others are counted."""
MAX_WARNINGS = 100
"""Warnings of one run; the rest is told with ``-v``."""


class Unattached:
    """Collects containers with the same programs and reason into one warning. Not thread-safe."""

    def __init__(self) -> None:
        self._batch: dict[tuple[tuple[str, ...], str], list[str]] = {}
        self._planned = False
        self._said = 0

    def add(self, container: str, reasons: Mapping[str, str]) -> None:
        """*reasons*: why not, by label of the program."""
        by_reason: dict[str, list[str]] = {}
        for program, reason in reasons.items():
            by_reason.setdefault(reason, []).append(program)
        for reason, programs in by_reason.items():
            self._batch.setdefault((tuple(programs), reason), []).append(container)

    def due(self) -> bool:
        """True once a batch: :meth:`flush` is to be called."""
        due = bool(self._batch) and not self._planned
        self._planned |= due
        return due

    def flush(self) -> None:
        """Write what was collected."""
        self._planned = False
        batch, self._batch = self._batch, {}
        for (programs, reason), containers in batch.items():
            names = ", ".join(f"{name!a}" for name in containers[:MAX_NAMES])
            if len(containers) > MAX_NAMES:
                names += f" and {len(containers) - MAX_NAMES} more"
            self._said += 1
            if self._said == MAX_WARNINGS:
                log.warning("more programs that are not attached to containers: -v tells of each")
            log.log(
                logging.DEBUG if self._said >= MAX_WARNINGS else logging.WARNING,
                "container%s %s: not attached: %s: %s",
                "s" if len(containers) > 1 else "",
                names,
                listed(programs),
                reason,
            )
