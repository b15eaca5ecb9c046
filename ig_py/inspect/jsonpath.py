"""JSONPath for ``--jsonpath``: children, indexes, slices, unions, wildcards, ``..``, filters.

The expression is what follows ``$``: ``.name``, ``[0].Name``, ``..pid``,
``[?(@.Type == 'Hash')].Name``. Expressions come from the user, documents from
an image: recursion, results and the values looked at (the product of steps, filters and the
document's size) have limits.

It is our own because paths are those of `ig` (PaesslerAG/jsonpath), where python-jsonpath
follows RFC 9535: there ``.7`` does not parse, ``[7]`` finds no member of an object, a step of 0
and a key that is missing are no errors, and a path inside of a filter has no limit.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

from ig_py.errors import LimitError, UsageError

MAX_LENGTH = 4096
MAX_RESULTS = 1 << 18
MAX_DEPTH = 64
MAX_STEPS = 64
MAX_VISITS = 1 << 21
"""Values looked at by all steps of an expression together, those inside of filters included."""

_NAME = re.compile(r"[^\W\d][\w-]*|\d+")
_NUMBER = re.compile(r"-?\d+")
_SLICE = re.compile(r"\s*(-?\d*)\s*:\s*(-?\d*)\s*(?::\s*(-?\d*)\s*)?")
_LITERAL = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<number>-?\d+(?:\.\d+)?)|(?P<word>true|false|null))\s*"""
)
_COMPARE = re.compile(r"\s*(==|!=|<=|>=|<|>)")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class _Visits:
    """Counts the values that one evaluation looks at."""

    def __init__(self) -> None:
        self._left = MAX_VISITS

    def add(self, count: int) -> None:
        """Count *count* values more.

        Raises:
            LimitError: They are more than MAX_VISITS.
        """
        self._left -= count
        if self._left < 0:
            raise LimitError(
                f"a jsonpath that looks at more than {MAX_VISITS} values of the document",
                remedy="name more of the path, with fewer .. and filters",
            )


Step = Callable[[list[Any], _Visits], list[Any]]
Test = Callable[[Any, _Visits], bool]


class _Missing(Exception):
    """A definite path leads nowhere."""


def evaluate(document: Any, expression: str) -> Any:
    """The value at ``$`` + *expression*; a list when the path may match several.

    Raises:
        UsageError: The expression does not parse or leads nowhere.
        LimitError: The expression, the document's depth or the results exceed a limit.
    """
    if len(expression) > MAX_LENGTH:
        raise LimitError(f"a jsonpath of {len(expression)} characters, at most {MAX_LENGTH}")
    parser = _Parser(expression)
    steps, definite = parser.path(top=True)
    try:
        found = _run(steps, document, _Visits())
    except _Missing as err:
        raise UsageError(f'resolving path "{expression}": {err}') from None
    return found[0] if definite else found


def _run(steps: list[Step], document: Any, visits: _Visits) -> list[Any]:
    found = [document]
    for step in steps:
        visits.add(1)
        found = step(found, visits)
        if len(found) > MAX_RESULTS:
            raise LimitError(f"a jsonpath with more than {MAX_RESULTS} results")
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0

    def bad(self, why: str) -> UsageError:
        return UsageError(f'parsing path "{self.text}": {why} at character {self.pos + 1}')

    def accept(self, token: str) -> bool:
        if self.text.startswith(token, self.pos):
            self.pos += len(token)
            return True
        return False

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.pos)
        if found:
            self.pos = found.end()
        return found

    def path(self, *, top: bool) -> tuple[list[Step], bool]:
        """Steps up to the end (*top*) or to what is no step, and whether one value results."""
        steps: list[Step] = []
        definite = True
        while self.pos < len(self.text):
            if len(steps) > MAX_STEPS:
                raise LimitError(f"a jsonpath of more than {MAX_STEPS} steps")
            if self.accept(".."):
                definite = False
                steps.append(_descend)
                if not self.text.startswith("[", self.pos):
                    steps.append(self.dotted(definite))
            elif self.accept("."):
                wildcard = self.text.startswith("*", self.pos)
                definite = definite and not wildcard
                steps.append(self.dotted(definite))
            elif self.accept("["):
                step, single = self.bracket(definite)
                definite = definite and single
                steps.append(step)
            elif top:
                raise self.bad("expected . or [")
            else:
                break
        return steps, definite

    def dotted(self, definite: bool) -> Step:
        if self.accept("*"):
            return _wildcard
        name = self.match(_NAME)
        if name is None:
            raise self.bad("expected a name")
        return _child(name.group(), definite)

    def bracket(self, definite: bool) -> tuple[Step, bool]:
        if self.accept("*"):
            self.close()
            return _wildcard, False
        if self.accept("?("):
            condition = self.condition()
            if not self.accept(")"):
                raise self.bad("expected )")
            self.close()
            return _filter(condition), False
        keys: list[str | int] = []
        while True:
            sliced = _SLICE.match(self.text, self.pos)
            if sliced and not keys:
                self.pos = sliced.end()
                self.close()
                return self.slice(sliced), False
            keys.append(self.key())
            if not self.accept(","):
                break
        self.close()
        if len(keys) == 1:
            return _child(keys[0], definite), True
        return _union(keys), False

    def slice(self, found: re.Match[str]) -> Step:
        numbers = [int(n) if n and n != "-" else None for n in found.groups()]
        if numbers[2] == 0:
            raise self.bad("a slice cannot have step 0")
        cut = slice(*numbers)

        def step(found: list[Any], visits: _Visits) -> list[Any]:
            result = []
            for item in found:
                part = item[cut] if isinstance(item, list) else []
                visits.add(1 + len(part))
                result += part
            return result

        return step

    def key(self) -> str | int:
        literal = self.match(_LITERAL)
        if literal is None or literal["word"]:
            raise self.bad("expected a quoted name or an index")
        value = _value(literal)
        if isinstance(value, float):
            raise self.bad("expected a quoted name or an index")
        assert isinstance(value, (str, int))
        return value

    def close(self) -> None:
        if not self.accept("]"):
            raise self.bad("expected ]")

    def condition(self) -> Test:
        alternatives = [self.conjunction()]
        while self.match(re.compile(r"\s*\|\|\s*")):
            alternatives.append(self.conjunction())
        return lambda item, visits: any(test(item, visits) for test in alternatives)

    def conjunction(self) -> Test:
        tests = [self.comparison()]
        while self.match(re.compile(r"\s*&&\s*")):
            tests.append(self.comparison())
        return lambda item, visits: all(test(item, visits) for test in tests)

    def comparison(self) -> Test:
        self.match(re.compile(r"\s*"))
        negated = self.accept("!")
        if not self.accept("@"):
            raise self.bad("expected @")
        steps, _ = self.path(top=False)
        compare = self.match(_COMPARE)
        literal = None
        if compare:
            literal = self.match(_LITERAL)
            if literal is None:
                raise self.bad("expected a text, a number, true, false or null")
        wanted = _value(literal) if literal else None

        def test(item: Any, visits: _Visits) -> bool:
            visits.add(1)
            try:
                found = _run(steps, item, visits)
            except _Missing:
                return negated
            if compare is None:
                return bool(found) != negated
            return _compares(compare.group(1), found, wanted) != negated

        return test


def _compares(op: str, found: list[Any], wanted: Any) -> bool:
    if not found:
        return False
    try:
        return _OPERATORS[op](found[0], wanted)
    except TypeError:
        return False


def _value(literal: re.Match[str]) -> Any:
    if literal["text"]:
        quoted = literal["text"]
        if quoted[0] == "'":
            body = re.sub(r"\\(.)", r"\1", quoted[1:-1])
            return body
        try:
            return json.loads(quoted)
        except ValueError:
            return quoted[1:-1]
    if literal["number"]:
        text = literal["number"]
        return float(text) if "." in text else int(text)
    return {"true": True, "false": False, "null": None}[literal["word"]]


def _items(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return list(value.values()) if isinstance(value, dict) else []


def _wildcard(found: list[Any], visits: _Visits) -> list[Any]:
    result = []
    for item in found:
        items = _items(item)
        visits.add(1 + len(items))
        result += items
    return result


def _filter(condition: Test) -> Step:
    def step(found: list[Any], visits: _Visits) -> list[Any]:
        return [x for x in _wildcard(found, visits) if condition(x, visits)]

    return step


def _descend(found: list[Any], visits: _Visits) -> list[Any]:
    def walk(value: Any, depth: int) -> Iterator[Any]:
        if depth > MAX_DEPTH:
            raise LimitError(f"a document nested over {MAX_DEPTH} deep")
        visits.add(1)
        yield value
        for item in _items(value):
            yield from walk(item, depth + 1)

    return [x for item in found for x in walk(item, 0)]


def _get(value: Any, key: str | int) -> Any:
    """The child *key* of *value*.

    Raises:
        _Missing: There is none.
    """
    if isinstance(value, dict) and str(key) in value:
        return value[str(key)]
    if isinstance(value, list):
        number = key if isinstance(key, int) else None
        if isinstance(key, str) and _NUMBER.fullmatch(key) and len(key) < 12:
            number = int(key)
        if number is not None and -len(value) <= number < len(value):
            return value[number]
    raise _Missing(f"unknown key {key}")


def _child(key: str | int, definite: bool) -> Step:
    def step(found: list[Any], visits: _Visits) -> list[Any]:
        if definite:
            return [_get(found[0], key)]
        return list(_lookups(found, [key], visits))

    return step


def _union(keys: list[str | int]) -> Step:
    return lambda found, visits: list(_lookups(found, keys, visits))


def _lookups(found: list[Any], keys: list[str | int], visits: _Visits) -> Iterator[Any]:
    for item in found:
        visits.add(len(keys))
        for key in keys:
            try:
                yield _get(item, key)
            except _Missing:
                continue
