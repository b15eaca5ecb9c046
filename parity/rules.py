"""How a field of the two tools' events is compared.

Both tools watch the same processes at the same time, so ids and names must be *equal*: there
is nothing to mask. What differs by nature is when each tool's program looked at the clock and
how each tool converts the kernel's clock to wall time: those fields must be *near*.
"""

from __future__ import annotations

import datetime
import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NEAR_NS = 2_000_000_000
"""How far two readings of one moment may be apart, in ns: an emulated guest is slow."""

_NANOSECOND_FIELDS = ("timestamp_raw", "*ctime", "*containerStartedAt")
_TEXT_TIME_FIELDS = ("timestamp", "*.timestamp")
MASK = "<time>"


@dataclass(frozen=True)
class Rule:
    """*same* says whether two values agree; *mask* is shown in place of a value, or None."""

    name: str
    same: Callable[[Any, Any], bool]
    mask: str | None = None


def _nanoseconds(text: Any) -> int:
    """An RFC 3339 time in UTC with up to nine digits after the second, as ns since 1970."""
    whole, _, rest = str(text).partition(".")
    moment = datetime.datetime.fromisoformat(whole.removesuffix("Z")).replace(tzinfo=datetime.UTC)
    fraction = rest.removesuffix("Z").ljust(9, "0")
    return int(moment.timestamp()) * 10**9 + int(fraction)


def _near(left: Any, right: Any) -> bool:
    if left == right:
        return True
    if not isinstance(left, int) or not isinstance(right, int) or not left or not right:
        return False
    return abs(left - right) <= NEAR_NS


def _near_text(left: Any, right: Any) -> bool:
    try:
        return _near(_nanoseconds(left), _nanoseconds(right))
    except ValueError:
        return False


EQUAL = Rule("equal", lambda left, right: type(left) is type(right) and bool(left == right))
NEAR = Rule("near", _near, MASK)
NEAR_TEXT = Rule("near", _near_text, MASK)


def rule_for(field: str) -> Rule:
    """The rule of the field with the full name *field* (``proc.creds.uid``)."""
    if any(fnmatch.fnmatchcase(field, pattern) for pattern in _TEXT_TIME_FIELDS):
        return NEAR_TEXT
    if any(fnmatch.fnmatchcase(field, pattern) for pattern in _NANOSECOND_FIELDS):
        return NEAR
    return EQUAL
