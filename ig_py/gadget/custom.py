"""Custom parameters: values that patch gadget.yaml before anything is read from it.

``params.custom.NAME`` has a ``patch``, or one for each of its ``values``; texts
in a patch may ask for parameters and configuration (docs/reference/metadata.md#custom-parameters)::

    {{call .getParamValue "custom.interval"}}  {{call .getConfig "name"}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ig_py.errors import LimitError, MetadataError, UsageError
from ig_py.gadget.metadata import Metadata, lower_keys, merge, scalar_text
from ig_py.gadget.params import CUSTOM_PREFIX

MAX_TEXT = 64 << 10
"""Longest text that a patch may grow to, in characters."""

_ACTION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_CALL = re.compile(r"-?\s*call\s+\.(getParamValue|getConfig)\s+(?:\"([^\"\\]*)\"|`([^`]*)`)\s*-?")


def apply_custom(metadata: Metadata, values: Mapping[str, str]) -> None:
    """Patch *metadata* by the custom parameters in *values* (full name -> text, "" is unset).

    Raises UsageError for a value that the parameter does not know, MetadataError
    for a patch that is none.
    """
    known = {name.lower(): value for name, value in values.items()}
    for name in list(metadata.mapping(["params", "custom"])):
        value = known.get(CUSTOM_PREFIX + name, "")
        if not value:
            continue
        patch = _patch_of(metadata, name, value)
        if patch is None:
            continue
        where = f"{metadata.source}: params.custom.{name}"
        filled = _fill(lower_keys(patch), metadata, known, where)
        if isinstance(filled.get("params"), dict):
            filled["params"].pop("custom", None)
        merge(metadata.config, filled)


def _patch_of(metadata: Metadata, name: str, value: str) -> dict[str, Any] | None:
    path = ["params", "custom", name]
    choices = metadata.mapping([*path, "values"])
    if choices and value.lower() not in choices:
        raise UsageError(
            f"setting parameter {name!r} to {value!r}: must be one of {', '.join(sorted(choices))}"
        )
    patch = metadata.mapping([*path, "values", value, "patch"]) if choices else {}
    return patch or metadata.mapping([*path, "patch"]) or None


def _fill(node: Any, metadata: Metadata, values: Mapping[str, str], where: str) -> Any:
    if isinstance(node, dict):
        return {k: _fill(v, metadata, values, where) for k, v in node.items()}
    if isinstance(node, list):
        return [_fill(v, metadata, values, where) for v in node]
    return _expand(node, metadata, values, where) if isinstance(node, str) else node


def _expand(text: str, metadata: Metadata, values: Mapping[str, str], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        call = _CALL.fullmatch(match[1].strip())
        if call is None:
            raise MetadataError(f"{where}: template {match[0][:64]!r} is not supported")
        name = call[2] if call[2] is not None else call[3]
        if call[1] == "getParamValue":
            return values.get(name.lower(), "")
        return scalar_text(metadata.get([name])) if name else ""

    result = _ACTION.sub(value, text)
    if len(result) > MAX_TEXT:
        raise LimitError(f"{where}: a text of {len(result)} characters, at most {MAX_TEXT}")
    return result
