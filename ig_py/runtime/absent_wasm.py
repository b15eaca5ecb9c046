"""Images with a wasm module, which is not run: what is missing, and what then names nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ig_py.errors import UsageError, listed
from ig_py.gadget.metadata import Metadata

if TYPE_CHECKING:
    from ig_py.oci.artifact import Artifact

NAME_FIELDS = (
    "operator.sort.sort",
    "operator.filter.filter",
    "operator.filter.filter-expr",
    "operator.limiter.max-entries",
)
"""Parameters whose values name fields and data sources, which a module can add."""
NOT_RUN = "the image has a wasm module, which this version does not run"


def has_wasm(artifact: Artifact) -> bool:
    from ig_py.oci.media import WASM_LAYER

    return any(layer.descriptor.media_type == WASM_LAYER for layer in artifact.layers)


def what_is_missing(metadata: Metadata) -> str:
    """For the user, before a run and where the image is explained."""
    declared = list(metadata.mapping(["params", "wasm"]))
    text = f"{NOT_RUN}: what it would add or change is missing"
    if declared:
        text += f", its parameters ({listed(declared)}) too"
    return text


def without_missing_names(
    given: Mapping[str, str],
    metadata: Metadata,
    works: Callable[[Mapping[str, str]], None],
    warn: Callable[[str], None],
) -> dict[str, str]:
    """*given* without gadget.yaml's defaults that name what only the module would add.

    Args:
        given: Values of all parameters, full name → text; *works* has refused them.
        works: Refuses values that name what is not there, with UsageError.

    Raises:
        UsageError: A value that the user gave names what is not there.
    """
    defaults = {key.lower(): metadata.text(["paramDefaults", key]) for key in NAME_FIELDS}
    kept = {k: v for k, v in given.items() if k not in NAME_FIELDS or not v}
    works(kept)
    for key in NAME_FIELDS:
        value = given.get(key, "")
        if not value:
            continue
        try:
            works({**kept, key: value})
        except UsageError as err:
            if value != defaults[key]:
                raise UsageError(f"{err.message} ({NOT_RUN})", remedy=err.remedy) from err
            warn(f"gadget.yaml's default of {key} is left out: {err.message}; {NOT_RUN}")
        else:
            kept[key] = value
    return kept
