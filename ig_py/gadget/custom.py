"""Custom parameters: values that patch gadget.yaml before anything is read from it.

``params.custom.NAME`` has a ``patch``, or one for each of its ``values``. Texts in a patch may
contain values of parameters and of gadget.yaml (docs/reference/metadata.md#custom-parameters)::

    {{call .getParamValue "custom.interval"}}  {{call .getConfig "name"}}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ig_py.errors import MetadataError, UsageError, listed
from ig_py.gadget.allowance import Allowance
from ig_py.gadget.metadata import Metadata, lower_keys, merge, scalar_text
from ig_py.gadget.params import CUSTOM_PREFIX

MAX_TEXT = 256 << 10
"""Characters of the texts of all patches together, with the values filled in."""

_OPEN, _CLOSE = "{{", "}}"
_CALL = re.compile(r"-?\s*call\s+\.(getParamValue|getConfig)\s+(?:\"([^\"\\]*)\"|`([^`]*)`)\s*-?")


def apply_custom(metadata: Metadata, values: Mapping[str, str]) -> None:
    """Patch *metadata* by the custom parameters in *values* (full name -> text, "" is unset).

    Raises:
        UsageError: A value is not one of the parameter's choices.
        MetadataError: A patch is malformed.
        LimitError: The patched texts are too long.
    """
    known = {name.lower(): value for name, value in values.items()}
    left = Allowance(MAX_TEXT, f"patching {metadata.source}", "characters of texts")
    for name in list(metadata.mapping(["params", "custom"])):
        value = known.get(CUSTOM_PREFIX + name, "")
        if not value:
            continue
        patch = _patch_of(metadata, name, value)
        if patch is None:
            continue
        where = f"{metadata.source}: params.custom.{name}"
        filled = _fill(lower_keys(patch), partial(_expand, metadata, known, where, left))
        if isinstance(filled.get("params"), dict):
            filled["params"].pop("custom", None)
        merge(metadata.config, filled)


def _patch_of(metadata: Metadata, name: str, value: str) -> dict[str, Any] | None:
    path = ["params", "custom", name]
    choices = metadata.mapping([*path, "values"])
    if choices and value.lower() not in choices:
        raise UsageError(
            f"setting parameter {name!r} to {value!r}: must be one of {listed(sorted(choices))}"
        )
    patch = metadata.mapping([*path, "values", value, "patch"]) if choices else {}
    return patch or metadata.mapping([*path, "patch"]) or None


def _fill(node: Any, expand: Callable[[str], str]) -> Any:
    if isinstance(node, dict):
        return {k: _fill(v, expand) for k, v in node.items()}
    if isinstance(node, list):
        return [_fill(v, expand) for v in node]
    return expand(node) if isinstance(node, str) else node


def _expand(
    metadata: Metadata, values: Mapping[str, str], where: str, left: Allowance, text: str
) -> str:
    def value(action: str) -> str:
        call = _CALL.fullmatch(action.strip())
        if call is None:
            shown = f"{_OPEN}{action}{_CLOSE}"[:64]
            raise MetadataError(f"{where}: template {shown!r} is not supported")
        name = call[2] if call[2] is not None else call[3]
        if call[1] == "getParamValue":
            return values.get(name.lower(), "")
        return scalar_text(metadata.get([name])) if name else ""

    done: list[str] = []
    at = 0
    while (start := text.find(_OPEN, at)) >= 0:
        end = text.find(_CLOSE, start + len(_OPEN))
        if end < 0:
            break
        done += (text[at:start], value(text[start + len(_OPEN) : end]))
        left.take(len(done[-2]) + len(done[-1]))
        at = end + len(_CLOSE)
    left.take(len(text) - at)
    return "".join(done) + text[at:]
