"""gadget.yaml against its JSON Schema, with the line of each mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_py import yamlsafe
from ig_py.errors import MetadataError

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

SCHEMA_FILE = Path(__file__).with_name("gadget.schema.json")
MAX_SHOWN = 20
"""Most mistakes in one error message; its detail has all of them."""

_TYPE_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "nothing",
}


def validate(raw: bytes, source: str) -> tuple[dict[str, Any], yamlsafe.Lines]:
    """The document of a gadget.yaml that follows the schema, and its lines.

    An empty document is an empty mapping.

    Raises:
        MetadataError: The document breaks the schema; the message has ``source:line: reason`` for
            each mistake, in the order of the file.
        LimitError: It is too large or too deeply nested.
    """
    document, lines = yamlsafe.load(raw, source)
    if document is None:
        document = {}
    messages = [
        f"{source}:{line}: {message}" for line, message in sorted(_mistakes(document, lines))
    ]
    if messages:
        shown = messages[:MAX_SHOWN]
        if len(messages) > len(shown):
            shown.append(f"and {len(messages) - len(shown)} more")
        raise MetadataError("; ".join(shown), detail="\n".join(messages))
    return document, lines


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))


def _mistakes(document: Any, lines: yamlsafe.Lines) -> Iterator[tuple[int, str]]:
    for error in _validator().iter_errors(document):
        path: list[str | int] = list(error.absolute_path)
        if "propertyNames" in error.absolute_schema_path:
            path.append(str(error.instance))
        subject = ".".join(map(str, path)) or "the document"
        yield lines.line(path), f"{subject}: {_reason(error)}"


def _reason(error: ValidationError) -> str:
    value: Any = error.instance
    rule: Any = error.validator_value
    if error.validator == "type":
        kinds = [rule] if isinstance(rule, str) else list(rule)
        return f"expected {_one_of(kinds)}, not {_kind_of(value)}"
    if error.validator == "enum":
        names = [_shown(v) for v in rule if v not in (None, "")]
        return f"{_shown(value)} is none of {', '.join(dict.fromkeys(names))}"
    if error.validator == "pattern":
        return f"{_shown(value)} is not a valid name"
    if error.validator == "anyOf":
        return f"{_shown(value)} is not a number" + (
            " or 'type'" if {"const": "type"} in rule else ""
        )
    return error.message[:200]


def _one_of(kinds: Sequence[str]) -> str:
    words = [_TYPE_WORDS[kind] for kind in kinds if kind != "null"]
    if {"string", "number", "boolean"} <= set(kinds):
        return "a single value"
    return " or ".join(words)


def _kind_of(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"{_shown(value)}"


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
