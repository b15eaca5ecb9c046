"""Untrusted YAML to plain values, with the line of every node.

The documents are small and written by hand, so tags and several documents are refused. Anchors,
aliases and merge keys mean what they mean to Go's YAML library (gopkg.in/yaml.v3); the limits are
on what the document has become once each alias is replaced by what it names. Plain scalars are
typed as that library does for untyped values (``yes`` and dates stay text), so that a document
means the same to every runner.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ig_py.errors import LimitError, MetadataError
from ig_py.numbers import parse_literal

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
"""Deepest nesting, and longest chain of aliases in aliases: each is replaced first."""
MAX_NODES = 20_000
"""Nodes of a file, those that aliases and merge keys repeat included."""
MAX_ANCHORS = 256
"""Anchors: each looks through the nodes that were read."""
MAX_TEXT = 1 << 20
"""Characters of keys and scalars of a file, those that aliases and merge keys repeat included."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SPECIAL = {
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_NUMBER = re.compile(r"[-+]?\.?[0-9]")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_INTEGERS = range(-(1 << 63), 1 << 64)
_LONGEST_NUMBER = 400
"""Characters of a number; a longer scalar is a text."""

Path = tuple[str | int, ...]
MERGE = "<<"
"""Key that takes over the keys of other mappings (yaml.org/type/merge)."""


class Lines:
    """Where the nodes of one document are."""

    def __init__(self, source: str, lines: dict[Path, int]) -> None:
        self.source = source
        self._lines = lines

    def line(self, path: Sequence[str | int]) -> int:
        """1-based line of the node at *path*, or of its nearest ancestor that exists.

        A path is made of mapping keys and list indexes. The line of a mapping's value is
        that of its key.
        """
        exact = tuple(path)
        while exact and exact not in self._lines:
            exact = exact[:-1]
        return self._lines.get(exact, 1)

    def at(self, path: Sequence[str | int]) -> str:
        """``source:line``, the start of an error message."""
        return f"{self.source}:{self.line(path)}"


def load(raw: bytes, source: str) -> tuple[Any, Lines]:
    """The document's value (dict with text keys, list, str, int, float, bool or None).

    *source* names the document in errors, which start with ``source:line``.

    Raises:
        MetadataError: It is not YAML, or uses what is refused.
        LimitError: It is beyond MAX_BYTES, MAX_DEPTH or MAX_NODES.
    """
    found = _Reader(_decoded(raw, source), source, several=False, typed=True).documents()
    return found[0] if found else (None, Lines(source, {}))


def load_texts(raw: bytes, source: str) -> list[tuple[Any, Lines]]:
    """As :func:`load`, every document of *raw*; scalars are texts as they are written, or None."""
    return _Reader(_decoded(raw, source), source, several=True, typed=False).documents()


def _decoded(raw: bytes, source: str) -> str:
    if len(raw) > MAX_BYTES:
        raise LimitError(f"{source}: {len(raw)} bytes of YAML, at most {MAX_BYTES} are read")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        raise MetadataError(f"{source}:{line}: not UTF-8") from None


class _Anchored(NamedTuple):
    """A node that an anchor names: its value, with the lines of the nodes in it by path in it."""

    value: Any
    lines: dict[Path, int]
    nodes: int
    text: int
    depth: int


class _Reader:
    def __init__(self, text: str, source: str, *, several: bool, typed: bool) -> None:
        self.source = source
        self.lines: dict[Path, int] = {}
        self.nodes = 0
        self.characters = 0
        self.deepest = 0
        self.named = 0
        self.anchors: dict[str, _Anchored | None] = {}
        """None: the node that the anchor names is being read."""
        self.text = text
        self.several = several
        self.typed = typed

    def documents(self) -> list[tuple[Any, Lines]]:
        import yaml

        loader_type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        loader = None
        try:
            loader = loader_type(self.text)
            self.next = loader.get_event
            return self._stream(yaml)
        except yaml.MarkedYAMLError as e:
            mark = e.problem_mark or e.context_mark
            reason = e.problem or e.context or "malformed"
            raise MetadataError(f"{self._at(mark)}: {reason}") from None
        except yaml.YAMLError as e:
            position = getattr(e, "position", 0)
            line = self.text.count("\n", 0, position) + 1
            reason = getattr(e, "reason", "malformed")
            raise MetadataError(f"{self.source}:{line}: {reason}") from None
        finally:
            if loader is not None:
                loader.dispose()

    def _stream(self, yaml: Any) -> list[tuple[Any, Lines]]:
        found: list[tuple[Any, Lines]] = []
        self.next()  # StreamStart
        while not isinstance(event := self.next(), yaml.StreamEndEvent):
            if found and not self.several:
                raise MetadataError(f"{self._at(event.start_mark)}: a second document")
            self.lines = {}
            self.anchors = {}
            value = self._node(self.next(), (), 0)
            found.append((value, Lines(self.source, self.lines)))
            self.next()  # DocumentEnd
        return found

    def _node(self, event: Any, path: Path, depth: int) -> Any:
        import yaml

        if isinstance(event, yaml.AliasEvent):
            return self._repeated(event, path, depth)
        if event.anchor is None:
            return self._plain_node(event, path, depth)
        self._name(event, None)
        nodes, characters, deepest = self.nodes, self.characters, self.deepest
        self.deepest = depth
        value = self._plain_node(event, path, depth)
        inside = len(path)
        lines = {p[inside:]: n for p, n in self.lines.items() if p[:inside] == path}
        self.anchors[event.anchor] = _Anchored(
            value, lines, self.nodes - nodes, self.characters - characters, self.deepest - depth
        )
        self.deepest = max(deepest, self.deepest)
        return value

    def _name(self, event: Any, what: _Anchored | None) -> None:
        self.named += 1
        if self.named > MAX_ANCHORS:
            raise LimitError(f"{self._at(event.start_mark)}: more than {MAX_ANCHORS} anchors")
        self.anchors[event.anchor] = what

    def _repeated(self, event: Any, path: Path, depth: int) -> Any:
        """A copy of what an alias names."""
        found = self._anchored(event)
        self._take(event, found.nodes, found.text, depth + found.depth)
        for below, line in found.lines.items():
            self.lines.setdefault((*path, *below), line)
        return copy.deepcopy(found.value)

    def _anchored(self, event: Any) -> _Anchored:
        found = self.anchors.get(event.anchor)
        if found is None:
            why = "contains itself" if event.anchor in self.anchors else "is not defined before"
            raise MetadataError(f"{self._at(event.start_mark)}: anchor {event.anchor!r} {why}")
        return found

    def _plain_node(self, event: Any, path: Path, depth: int) -> Any:
        import yaml

        self._admit(event, depth)
        self.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(child := self.next(), yaml.SequenceEndEvent):
                items.append(self._node(child, (*path, len(items)), depth + 1))
            return items
        return self._mapping(path, depth)

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        import yaml

        result: dict[str, Any] = {}
        merged: list[tuple[dict[str, Any], dict[Path, int]]] | None = None
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            key = self._key(event, depth + 1)
            if key == MERGE and not isinstance(event, yaml.AliasEvent) and event.implicit[0]:
                if merged is not None:
                    raise MetadataError(f"{self._at(event.start_mark)}: a second merge key")
                merged = self._merge(self.next(), depth)
                continue
            if key in result:
                raise MetadataError(
                    f"{self._at(event.start_mark)}: key {key!r} occurs a second time, "
                    f"first in line {self.lines[(*path, key)]}"
                )
            self.lines[(*path, key)] = _line(event)
            result[key] = self._node(self.next(), (*path, key), depth + 1)
        for source, lines in merged or ():
            # The mapping's own keys win, then those of the first mapping that has them.
            taken = source.keys() - result.keys()
            result |= {key: value for key, value in source.items() if key in taken}
            for below, line in lines.items():
                if below and below[0] in taken:
                    self.lines.setdefault((*path, *below), line)
        return result

    def _key(self, event: Any, depth: int) -> str:
        import yaml

        if isinstance(event, yaml.AliasEvent):
            found = self._anchored(event)
            if not isinstance(found.value, str):
                raise MetadataError(f"{self._at(event.start_mark)}: a key must be a text")
            self._take(event, found.nodes, found.text, depth)
            return found.value
        self._admit(event, depth)
        if not isinstance(event, yaml.ScalarEvent):
            raise MetadataError(f"{self._at(event.start_mark)}: a key must be a scalar")
        key: str = event.value
        if event.anchor is not None:
            self._name(event, _Anchored(key, {(): _line(event)}, 1, len(key), 0))
        return key

    def _merge(self, event: Any, depth: int) -> list[tuple[dict[str, Any], dict[Path, int]]]:
        """What a merge key takes over: mappings, the first of which wins, and their lines."""
        outer, self.lines = self.lines, {}
        try:
            value = self._node(event, (), depth)
            lines = self.lines
        finally:
            self.lines = outer
        several = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in several):
            raise MetadataError(
                f"{self._at(event.start_mark)}: a merge key takes a mapping or a list of mappings"
            )
        if not isinstance(value, list):
            return [(value, lines)]
        return [
            (source, {p[1:]: n for p, n in lines.items() if p[:1] == (number,)})
            for number, source in enumerate(several)
        ]

    def _admit(self, event: Any, depth: int) -> None:
        if event.tag not in (None, "!"):
            raise MetadataError(f"{self._at(event.start_mark)}: tags are not accepted")
        self._take(event, 1, len(getattr(event, "value", "")), depth)

    def _take(self, event: Any, nodes: int, characters: int, depth: int) -> None:
        self.nodes += nodes
        self.characters += characters
        self.deepest = max(self.deepest, depth)
        if self.nodes > MAX_NODES:
            raise LimitError(f"{self._at(event.start_mark)}: more than {MAX_NODES} nodes")
        if self.characters > MAX_TEXT:
            raise LimitError(
                f"{self._at(event.start_mark)}: more than {MAX_TEXT} characters once aliases are"
                " replaced"
            )
        if depth > MAX_DEPTH:
            raise LimitError(f"{self._at(event.start_mark)}: nested deeper than {MAX_DEPTH}")

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text: str = event.value
        if not event.implicit[0] or event.style:
            return text
        if text in _NULLS:
            return None
        if not self.typed:
            return text
        if text in _BOOLS:
            return _BOOLS[text]
        if text in _SPECIAL:
            return _SPECIAL[text]
        return _number(text)

    def _at(self, mark: Any) -> str:
        return f"{self.source}:{mark.line + 1 if mark is not None else 1}"


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _number(text: str) -> int | float | str:
    """The number that Go's yaml.v3 reads: ``010`` is 8, ``1_000`` 1000, ``08`` 8.0.

    *text* itself when it is none: sexagesimals, what is out of range.
    """
    if not _NUMBER.match(text) or len(text) > _LONGEST_NUMBER:
        return text
    plain = text.replace("_", "")
    try:
        if (number := parse_literal(plain)) in _INTEGERS:
            return number
    except ValueError:
        pass
    if not _FLOAT.match(plain):
        return text
    value = float(plain)
    return text if math.isinf(value) else value
