"""Settings from the environment and the configuration file.

Facts: docs/reference/cli.md#configuration-and-environment.

Only parameters known before any gadget is can be set there. Precedence: flag,
environment, file, default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ig_py.errors import UsageError
from ig_py.host.safe_open import FileRefused, read_argument

ENV_PREFIX = "INSPEKTOR_GADGET_"
DEFAULT_PATH = "~/.ig/config.yaml"
MAX_FILE_SIZE = 256 * 1024

_explicit: Path | None = None
_file: Mapping[str, Any] | None = None


def use_file(path: str) -> None:
    """Read settings from *path*.

    Raises:
        UsageError: It does not exist, cannot be read or is not valid.
    """
    global _explicit, _file
    _explicit, _file = Path(path), None
    _settings()


def env_name(key: str) -> str:
    """``operator.oci.verify-image`` → ``INSPEKTOR_GADGET_OPERATOR_OCI_VERIFY_IMAGE``."""
    return ENV_PREFIX + key.upper().replace("-", "_").replace(".", "_")


def configured(key: str) -> str | None:
    """The text set for *key*; None when it is not set."""
    if (value := os.environ.get(env_name(key))) is not None:
        return value
    node: Any = _settings()
    for part in key.lower().split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    if isinstance(node, list):
        return ",".join(_text(item).replace("\\", "\\\\").replace(",", "\\,") for item in node)
    if node is None or isinstance(node, Mapping):
        return None
    return _text(node)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _settings() -> Mapping[str, Any]:
    global _file
    if _file is None:
        _file = _read()
    return _file


def _read() -> Mapping[str, Any]:
    path = _explicit or Path(DEFAULT_PATH).expanduser()
    try:
        raw = read_argument(path, most=MAX_FILE_SIZE, pipes=_explicit is not None)
    except FileRefused as err:
        if _explicit is None and err.refusal == "absent":
            return {}
        raise UsageError(f"reading configuration {path}: {err.reason}") from None
    from ig_py import yamlsafe
    from ig_py.gadget.metadata import lower_keys

    document, _ = yamlsafe.load(raw, str(path))
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UsageError(f"reading configuration {path}: not a mapping of settings")
    settings: dict[str, Any] = lower_keys(document)
    return settings
