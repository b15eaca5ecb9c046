"""gadget.yaml as a runner sees it (docs/reference/metadata.md).

``ig`` reads the document with a configuration library (viper) whose rules authors rely on: keys are
case-insensitive, any scalar can be read as text, and a key that contains dots can also be reached
as a path of nested keys. :class:`Metadata` follows these rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ig_py.errors import LimitError, MetadataError, UsageError
from ig_py.gadget.allowance import Allowance

MAX_PATH = 16
"""Longest path that :meth:`Metadata.get` looks up (parts)."""
MAX_PROBES = 1 << 18
"""Keys tried by all look-ups in a document: a path with dots can be cut in many ways."""
MAX_SCALAR = 64 << 10
"""Longest text of a scalar, in characters."""


def lower_keys(value: Any) -> Any:
    """Copy of *value* with the keys of every mapping as lower-case text."""
    if isinstance(value, Mapping):
        return {scalar_text(k).lower(): lower_keys(v) for k, v in value.items()}
    if isinstance(value, list):
        return [lower_keys(v) for v in value]
    return value


def scalar_text(value: Any) -> str:
    """A YAML scalar as text, as Go writes it; empty for null and collections.

    ``true``, ``16``, ``1.5``, ``0.0000001``, ``+Inf``.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (Mapping, list)):
        return ""
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, int):
        # int -> str has a digit limit of its own that raises ValueError.
        return str(value) if value.bit_length() < 4096 else hex(value)
    return str(value)


def _float_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    from decimal import Decimal

    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def merge(base: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """Deep-merge *patch* into *base* (keys of both already lower-case)."""
    for key, value in patch.items():
        old = base.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            merge(old, value)
        else:
            base[key] = value


class Metadata:
    """A gadget's metadata.

    ``raw`` is the document as written, ``config`` the same with lower-case
    keys, which ``--annotate`` and custom parameters may change.
    """

    def __init__(
        self,
        raw: Mapping[str, Any] | None = None,
        source: str = "gadget.yaml",
        *,
        on_probe: Callable[[], None] | None = None,
    ) -> None:
        self.source = source
        self._on_probe = on_probe or Allowance(MAX_PROBES, f"reading {source}", "keys to try").take
        self.raw: dict[str, Any] = dict(raw or {})
        self.config: dict[str, Any] = lower_keys(self.raw)

    @classmethod
    def parse(cls, raw: bytes, source: str = "gadget.yaml") -> Metadata:
        """Parse untrusted YAML.

        Raises:
            MetadataError: It is malformed, or no mapping.
            LimitError: It is too large or too deeply nested.
        """
        from ig_py.yamlsafe import load

        document, _ = load(raw, source)
        if document is None:
            return cls({}, source)
        if not isinstance(document, dict):
            raise MetadataError(f"{source}: the document is not a mapping")
        return cls(document, source)

    def get(self, path: Sequence[str]) -> Any:
        """The value at *path*, case-insensitive; None when absent.

        Keys that contain dots are found whichever way *path* is cut: the
        longest matching key of each level is tried first.
        """
        parts = [p for part in path for p in part.lower().split(".")]
        if len(parts) > MAX_PATH:
            raise LimitError(f"{self.source}: a key path is longer than {MAX_PATH} parts")
        return _search(self.config, parts, self._on_probe)

    def text(self, path: Sequence[str]) -> str:
        """A scalar as text; "" when absent.

        Raises:
            MetadataError: It is a mapping or a list.
            LimitError: The text is too long.
        """
        value = self.get(path)
        if isinstance(value, (dict, list)):
            raise MetadataError(f"{self.source}: {'.'.join(path)}: expected a scalar")
        text = scalar_text(value)
        if len(text) > MAX_SCALAR:
            raise LimitError(f"{self.source}: {'.'.join(path)}: longer than {MAX_SCALAR}")
        return text

    def flag(self, path: Sequence[str]) -> bool:
        """A boolean; False when absent.

        Raises:
            MetadataError: It is neither true nor false.
        """
        text = self.text(path).lower()
        if text not in ("", "true", "false"):
            raise MetadataError(f"{self.source}: {'.'.join(path)}: expected true or false")
        return text == "true"

    def mapping(self, path: Sequence[str]) -> dict[str, Any]:
        """A mapping; empty when absent.

        Raises:
            MetadataError: It is something else.
        """
        value = self.get(path)
        if value is None or value == "":
            return {}
        if not isinstance(value, dict):
            raise MetadataError(f"{self.source}: {'.'.join(path)}: expected a mapping")
        return value

    def texts(self, path: Sequence[str]) -> dict[str, str]:
        """A mapping of scalars as text."""
        return {k: scalar_text(v) for k, v in self.mapping(path).items()}

    def text_list(self, path: Sequence[str]) -> list[str]:
        """A list of scalars; a lone scalar counts as a list of one."""
        value = self.get(path)
        if value is None:
            return []
        if isinstance(value, dict):
            raise MetadataError(f"{self.source}: {'.'.join(path)}: expected a list")
        return [scalar_text(v) for v in value] if isinstance(value, list) else [scalar_text(value)]

    def set(self, path: Sequence[str], value: Any) -> None:
        """Set one value; the parts of *path* are literal keys. Missing mappings are made."""
        node = self.config
        for key in path[:-1]:
            child = node.get(key.lower())
            if not isinstance(child, dict):
                child = node[key.lower()] = {}
            node = child
        node[path[-1].lower()] = value

    @property
    def name(self) -> str:
        return self.text(["name"])

    @property
    def description(self) -> str:
        return self.text(["description"])


def _search(node: Any, parts: Sequence[str], on_probe: Callable[[], None]) -> Any:
    if not parts:
        return node
    if not isinstance(node, dict):
        return None
    for n in range(len(parts), 0, -1):
        on_probe()
        key = ".".join(parts[:n])
        if key in node:
            found = _search(node[key], parts[n:], on_probe)
            if found is not None:
                return found
    return None


def parse_annotation(text: str) -> tuple[str, str, str, str]:
    """One ``--annotate`` element as (data source, field or "", key, value).

    Grammar: ``DS:KEY=VALUE`` or ``DS.FIELD[.SUB…]:KEY=VALUE``; VALUE may
    contain ``:`` after the ``=``.

    Raises:
        UsageError: *text* does not follow the grammar.
    """

    def bad(why: str) -> UsageError:
        return UsageError(
            f"parsing annotation {text!r}: {why}", remedy="write DATASOURCE[.FIELD]:KEY=VALUE"
        )

    subject, colon, assignment = text.partition(":")
    if not colon:
        raise bad("it must be in subject:assignment format")
    if not subject or not assignment:
        raise bad("it has an empty subject or assignment")
    key, equals, value = assignment.partition("=")
    if not equals:
        # Without "=" a second ":" is the likelier mistake.
        raise bad(
            "it must be in subject:assignment format"
            if ":" in assignment
            else "it must contain a key=value pair"
        )
    if not key:
        raise bad("it has an empty key")
    if ":" in key:
        # No annotation's key has one: a second subject is the likelier meaning.
        raise bad("it must be in subject:assignment format")
    datasource, dot, field = subject.partition(".")
    if dot and (not field or any(not part for part in field.split("."))):
        raise bad("it has an empty field or subfield name")
    if not datasource:
        raise bad("it has an empty subject or assignment")
    return datasource, field, key, value


def annotate(metadata: Metadata, annotations: Sequence[str]) -> None:
    """Merge ``--annotate`` elements into *metadata*.

    Raises:
        UsageError: An element is malformed.
    """
    for text in annotations:
        datasource, field, key, value = parse_annotation(text)
        path = ["datasources", datasource]
        if field:
            path += ["fields", field]
        metadata.set([*path, "annotations", key], value)
