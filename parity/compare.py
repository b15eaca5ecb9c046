"""Two lists of events of the same workload, compared field by field."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rules import rule_for

ABSENT = "<absent>"
_KEY_FIELDS = ("proc.pid", "proc.tid", "proc.comm")


@dataclass
class Difference:
    """A field that differs in *events* events; the first pair of values is kept."""

    field: str
    rule: str
    events: int
    left: str
    right: str


@dataclass
class Comparison:
    """*pairs* events were on both sides; *only_left* and *only_right* on one."""

    pairs: int = 0
    fields: int = 0
    differences: dict[str, Difference] = field(default_factory=dict)
    only_left: list[str] = field(default_factory=list)
    only_right: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return bool(self.pairs) and not (self.differences or self.only_left or self.only_right)


def flatten(event: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full field name and value of every leaf, in the order they were printed."""
    for name, value in event.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _key(event: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(event.get(name) for name in _KEY_FIELDS)


def _show(event: dict[str, Any]) -> str:
    known = {name: event[name] for name in (*_KEY_FIELDS, "args", "fname") if name in event}
    return json.dumps(known, ensure_ascii=False)


def _note(result: Comparison, name: str, rule: str, left: Any, right: Any) -> None:
    found = result.differences.get(name)
    if found:
        found.events += 1
        return
    shown = [value if value is ABSENT else json.dumps(value) for value in (left, right)]
    result.differences[name] = Difference(name, rule, 1, *shown)


def _compare_pair(
    result: Comparison, left: dict[str, Any], right: dict[str, Any], ignored: frozenset[str]
) -> None:
    result.pairs += 1
    for name in left | right:
        if name in ignored:
            continue
        a, b = left.get(name, ABSENT), right.get(name, ABSENT)
        rule = rule_for(name)
        if ABSENT in (a, b) or not rule.same(a, b):
            _note(result, name, rule.name, a, b)
    if left.keys() == right.keys() and list(left) != list(right):
        _note(result, "(order of keys)", "equal", list(left), list(right))


def compare(
    left: Sequence[dict[str, Any]], right: Sequence[dict[str, Any]], ignored: frozenset[str]
) -> Comparison:
    """Align the events by process, then compare each pair; *ignored* are full field names."""
    result = Comparison()
    a = [dict(flatten(event)) for event in left]
    b = [dict(flatten(event)) for event in right]
    result.fields = len({name for event in (*a, *b) for name in event} - ignored)
    matcher = difflib.SequenceMatcher(None, [_key(e) for e in a], [_key(e) for e in b], False)
    for tag, a0, a1, b0, b1 in matcher.get_opcodes():
        if tag == "equal":
            for one, other in zip(a[a0:a1], b[b0:b1], strict=True):
                _compare_pair(result, one, other, ignored)
            continue
        result.only_left += [_show(event) for event in a[a0:a1]]
        result.only_right += [_show(event) for event in b[b0:b1]]
    return result
