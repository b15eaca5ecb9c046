"""Reading CBOR (RFC 8949) as signatures use it: small, definite lengths, no floats."""

from __future__ import annotations

from typing import Any

from ig_py.errors import IntegrityError, LimitError
from ig_py.records import dataclass

MAX_DEPTH = 16
MAX_ITEMS = 4096
_SIMPLE = {20: False, 21: True, 22: None}


@dataclass(frozen=True)
class Tag:
    """A tagged value."""

    number: int
    value: Any


def load(raw: bytes, what: str) -> Any:
    """Decode the single item *raw*: ints, bytes, texts, lists, dicts, :class:`Tag`, bools, None.

    Raises:
        IntegrityError: It is malformed, or something follows it.
        LimitError: It has too many items, or they are nested too deeply.
    """
    reader = _Reader(raw, what)
    value = reader.item(0)
    if reader.position != len(raw):
        raise IntegrityError(f"{what}: {len(raw) - reader.position} bytes after its end")
    return value


def head(major: int, argument: int) -> bytes:
    """The head of an item: major type and argument (RFC 8949 §3)."""
    if argument < 24:
        return bytes([major << 5 | argument])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            return bytes([major << 5 | code]) + argument.to_bytes(size, "big")
    raise ValueError(argument)


class _Reader:
    def __init__(self, raw: bytes, what: str) -> None:
        self._raw = raw
        self._what = what
        self._items = 0
        self.position = 0

    def item(self, depth: int) -> Any:
        self._items += 1
        if depth > MAX_DEPTH or self._items > MAX_ITEMS:
            raise LimitError(f"{self._what}: CBOR with too many or too deeply nested items")
        first = self._take(1)[0]
        major, info = first >> 5, first & 31
        argument = info
        if 24 <= info <= 27:
            argument = int.from_bytes(self._take(1 << (info - 24)), "big")
        elif info > 27:
            raise self._wrong("an item of indefinite length")
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return self._take(argument)
        if major == 3:
            return self._text(argument)
        if major == 4:
            return [self.item(depth + 1) for _ in range(self._count(argument))]
        if major == 5:
            return self._map(argument, depth)
        if major == 6:
            return Tag(argument, self.item(depth + 1))
        if info > 23 or argument not in _SIMPLE:
            raise self._wrong("a number that is not whole, or an unknown value")
        return _SIMPLE[argument]

    def _map(self, pairs: int, depth: int) -> dict[int | str, Any]:
        found: dict[int | str, Any] = {}
        for _ in range(self._count(pairs)):
            key = self.item(depth + 1)
            if isinstance(key, bool) or not isinstance(key, (int, str)):
                raise self._wrong("a key that is neither a number nor a text")
            if key in found:
                raise self._wrong("a key twice")
            found[key] = self.item(depth + 1)
        return found

    def _count(self, number: int) -> int:
        # Each item has at least one byte.
        if number > len(self._raw) - self.position:
            raise self._wrong("a list longer than itself")
        return number

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode()
        except UnicodeDecodeError:
            raise self._wrong("a text that is not UTF-8") from None

    def _take(self, size: int) -> bytes:
        part = self._raw[self.position : self.position + size]
        if len(part) != size:
            raise self._wrong("an early end")
        self.position += size
        return part

    def _wrong(self, reason: str) -> IntegrityError:
        return IntegrityError(f"{self._what}: CBOR with {reason}")
