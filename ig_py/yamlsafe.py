"""Untrusted YAML to plain values, with the line of every node.

The documents are small and written by hand, so what YAML offers for compression and
extension is refused: anchors, aliases, merge keys, tags, several documents. Plain scalars
are typed as Go's YAML library does for untyped values (``yes`` and dates stay text), so
that a document means the same to every runner.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ig_py.errors import LimitError, MetadataError

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})\Z")
_BASED_INT = re.compile(r"0(x[0-9a-fA-F]{1,16}|o[0-7]{1,21}|b[01]{1,64})\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]{1,4})?\Z")

Path = tuple[str | int, ...]


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


class _Reader:
    def __init__(self, text: str, source: str, *, several: bool, typed: bool) -> None:
        self.source = source
        self.lines: dict[Path, int] = {}
        self.nodes = 0
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
            value = self._node(self.next(), (), 0)
            found.append((value, Lines(self.source, self.lines)))
            self.next()  # DocumentEnd
        return found

    def _node(self, event: Any, path: Path, depth: int) -> Any:
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
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            self._admit(event, depth + 1)
            if not isinstance(event, yaml.ScalarEvent):
                raise MetadataError(f"{self._at(event.start_mark)}: a key must be a scalar")
            key = event.value
            if key == "<<" and event.implicit[0]:
                raise MetadataError(f"{self._at(event.start_mark)}: merge keys are not accepted")
            if key in result:
                raise MetadataError(
                    f"{self._at(event.start_mark)}: key {key!r} occurs a second time, "
                    f"first in line {self.lines[(*path, key)]}"
                )
            self.lines[(*path, key)] = _line(event)
            result[key] = self._node(self.next(), (*path, key), depth + 1)
        return result

    def _admit(self, event: Any, depth: int) -> None:
        import yaml

        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise MetadataError(
                f"{self._at(event.start_mark)}: anchors and aliases are not accepted"
            )
        if event.tag not in (None, "!"):
            raise MetadataError(f"{self._at(event.start_mark)}: tags are not accepted")
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise LimitError(f"{self._at(event.start_mark)}: more than {MAX_NODES} nodes")
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
        if _INT.match(text):
            return int(text)
        if _BASED_INT.match(text):
            return int(text, 0)
        if _FLOAT.match(text):
            return float(text)
        return text

    def _at(self, mark: Any) -> str:
        return f"{self.source}:{mark.line + 1 if mark is not None else 1}"


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
