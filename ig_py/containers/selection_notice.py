"""What is said when no container that runs now is selected, or none by one of several names."""

from __future__ import annotations

from collections.abc import Sequence

from ig_py.containers.model import Container
from ig_py.containers.selector import Selector

MAX_NAMES = 10
MAX_NAME = 64
"""Characters of a name that are shown."""


def nothing_selected(selector: Selector, running: Sequence[Container]) -> str | None:
    """A sentence that names the containers which run, with control characters escaped; None when
    *selector* chooses one of *running* by each name that it has, or chooses all."""
    if selector.everything:
        return None
    if any(selector.matches(c) for c in running):
        names_of_none = [
            f"--{flag} {_quoted(name)}"
            for flag, name, one in selector.names()
            if not any(one.matches(c) for c in running)
        ]
        if not names_of_none:
            return None
        more = len(names_of_none) - MAX_NAMES
        given = " or ".join(names_of_none[:MAX_NAMES]) + (f" or {more} more" if more > 0 else "")
    else:
        given = " and ".join(f"--{flag} {_quoted(value)}" for flag, value in selector.given)
    names = sorted({_quoted(c.runtime.container_name or c.id) for c in running})
    more = len(names) - MAX_NAMES
    shown = ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
    return f"no container that runs now is selected by {given}; running: {shown or 'none'}"


def _quoted(name: str) -> str:
    return ascii(name if len(name) <= MAX_NAME else name[: MAX_NAME - 3] + "...")
