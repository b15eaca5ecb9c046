"""Limits on sums: work and memory that all parts of one object share.

A limit on each part alone (members of a struct, maps of an object) does not limit their product,
which the author of the image chooses.
"""

from __future__ import annotations

from ig_py.errors import LimitError


class Allowance:
    """*limit* units of work or memory.

    Args:
        limit: Units; None: no limit, for data from the kernel itself.
        attempt: What the units are used for (``reading IMAGE``), for the error.
        what: The units in words (``relocations``), for the error.
    """

    __slots__ = ("_attempt", "_left", "_limit", "_what")

    def __init__(self, limit: int | None, attempt: str, what: str) -> None:
        self._limit = limit
        self._left = limit
        self._attempt = attempt
        self._what = what

    def take(self, amount: int = 1) -> None:
        """Take *amount* units.

        Raises:
            LimitError: There are not so many left.
        """
        if self._left is None:
            return
        self._left -= amount
        if self._left < 0:
            raise LimitError(f"{self._attempt}: more than {self._limit} {self._what}")
