"""Limits on sums: what all the work on one object shares, whichever part of it asks.

A limit on each part alone (members of a struct, maps of an object) leaves their product to
the author of the image.
"""

from __future__ import annotations

from ig_py.errors import LimitError


class Allowance:
    """*limit* units of work or memory for *attempt* (``reading IMAGE``), of which *what* takes.

    *limit* None: without a limit, for what the kernel itself says.
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
