"""Text made line by line, under a limit."""

from __future__ import annotations

from ig_py.gadget.allowance import Allowance


class Lines:
    """Lines whose characters are taken from *left* before the lines are kept."""

    def __init__(self, left: Allowance) -> None:
        self._left = left
        self._lines: list[str] = []

    def add(self, *lines: str) -> None:
        """Keep *lines*.

        Raises:
            LimitError: Fewer characters are left.
        """
        for line in lines:
            self._left.take(len(line) + 1)
            self._lines.append(line)

    def text(self) -> str:
        """The lines, each with its newline."""
        return "\n".join(self._lines) + "\n"
