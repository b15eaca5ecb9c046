"""Durations as text: ``500ms``, ``1m30s``, ``0`` (docs/reference/metadata.md#parameters)."""

from __future__ import annotations

import re

from ig_py.errors import IgPyError, UsageError

SHORTEST_NS = 25_000_000
"""Shortest interval between reports; a shorter one would keep a processor busy."""

_MOST = (1 << 63) - 1
LONGEST_SECONDS = _MOST // 1_000_000_000
"""Longest time limit: the nanoseconds of one are a signed number of 64 bits."""

_PARTS = r"([0-9]{0,18})(?:\.([0-9]{0,18}))?(ns|us|µs|μs|ms|s|m|h)"
_WHOLE = re.compile(rf"[+-]?(?:0|(?:{_PARTS})+)")
_PART = re.compile(_PARTS)
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_LONGEST = 64


def parse_duration(text: str) -> int:
    """*text* in nanoseconds.

    Raises:
        ValueError: It is no duration, or one of more nanoseconds than a signed number of 64 bits.
    """
    if len(text) > _LONGEST or not _WHOLE.fullmatch(text):
        raise ValueError(text)
    total = 0
    for whole, fraction, unit in _PART.findall(text):
        if not whole and not fraction:
            raise ValueError(text)
        total += int(whole or 0) * _UNITS[unit]
        if fraction:
            total += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
    if total > _MOST:
        raise ValueError(text)
    return -total if text.startswith("-") else total


def parse_seconds(text: str) -> float:
    """A time limit: a whole number of seconds, as Go's literals are, or a duration.

    Raises:
        ValueError: *text* is neither, or longer than LONGEST_SECONDS.
    """
    from ig_py.numbers import parse_literal

    try:
        seconds: float = parse_literal(text)
    except ValueError:
        seconds = parse_duration(text) / 1e9
    if abs(seconds) > LONGEST_SECONDS:
        raise ValueError(text)
    return seconds


def parse_interval(text: str, what: str, error: type[IgPyError] = UsageError) -> int:
    """Nanoseconds between two reports.

    Args:
        text: The value of *what*, a flag or a key of gadget.yaml.
        error: Class of the error.

    Raises:
        IgPyError: As *error*: the text is no duration, or shorter than SHORTEST_NS.
    """
    try:
        interval = parse_duration(text)
    except ValueError:
        interval = -1
    if interval < SHORTEST_NS:
        raise error(
            f"{what}: {text!a} is no duration from {format_duration(SHORTEST_NS)}",
            remedy="give one such as 500ms or 3s",
        )
    return interval


def format_duration(nanoseconds: int) -> str:
    """Nanoseconds as Go writes them: ``0s``, ``13.089µs``, ``1.5s``, ``1m0s``."""
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left < 1_000_000_000:
        unit = next((u for u in ("ms", "µs", "ns") if left >= _UNITS[u]), "s")
        return f"{sign}{_decimal(left, _UNITS[unit])}{unit}"
    minutes, left = divmod(left, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(left, _UNITS['s'])}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else sign + text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}}".rstrip("0") if rest else str(whole)
