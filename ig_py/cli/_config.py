"""Settings from the environment and the configuration file.

Facts: docs/reference/cli.md#configuration-and-environment.

Only parameters known before any gadget is can be set there, and ``_run_flags.ROOT_FLAGS``.
Precedence: flag, environment, file, default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_py.errors import UsageError
from ig_py.host.safe_open import FileRefused, read_argument
from ig_py.records import dataclass, field

if TYPE_CHECKING:
    from ig_py.yamlsafe import Lines

ENV_PREFIX = "INSPEKTOR_GADGET_"
DEFAULT_PATH = "~/.ig/config.yaml"
MAX_FILE_SIZE = 256 * 1024
PEM_BEGIN = "-----BEGIN "
"""How a PEM text begins (RFC 7468), which has white space in it."""
_ENGINE_VARIABLES = {
    f"operator.localmanager.{engine.lower()}-socketpath": f"{ENV_PREFIX}{engine}_SOCKETPATH"
    for engine in ("DOCKER", "CONTAINERD", "CRIO", "PODMAN")
}
"""Settings that have a second variable, which counts after the file."""
# Kubernetes sets variables for a service "inspektor-gadget" in every pod of its namespace.
_OF_A_SERVICE = r"(SERVICE_(HOST|PORT(_.*)?)|PORT(_[0-9]+_.*)?)"


@dataclass(frozen=True)
class _Node:
    """A value and where it is; the keys of a mapping are in lower case."""

    value: Any
    line: int
    children: Mapping[str, _Node] = field(default_factory=dict)


_EMPTY = _Node(None, 0)
_explicit: Path | None = None
_file: _Node | None = None


def use_file(path: str) -> None:
    """Read settings from *path*; "": from the default one.

    Raises:
        UsageError: It does not exist, cannot be read or is not valid.
    """
    global _explicit, _file
    _explicit, _file = (Path(path) if path else None), None
    _settings()


def env_name(key: str) -> str:
    """``operator.oci.verify-image`` → ``INSPEKTOR_GADGET_OPERATOR_OCI_VERIFY_IMAGE``."""
    return ENV_PREFIX + key.upper().replace("-", "_").replace(".", "_")


def configured(key: str, *, is_list: bool = False) -> str | None:
    """The text set for *key*; None when it is not set.

    An empty variable counts as not set, as in ``ig``: it does not undo what the file says.

    Args:
        is_list: The value is a list: where a single text stands for it, white space separates its
            elements too, as in ``ig`` (viper's ``GetStringSlice``).

    Raises:
        UsageError: The file's value is neither a scalar nor a list of scalars.
    """
    settings = _settings()
    if value := os.environ.get(env_name(key)):
        return _elements(value) if is_list else value
    node = _find(settings, tuple(key.lower().split(".")))
    if node is None or node.value is None or isinstance(node.value, Mapping):
        return os.environ.get(_ENGINE_VARIABLES.get(key.lower(), "")) or None
    text = _text(node.value, key, node.line)
    return _elements(text) if is_list and isinstance(node.value, str) else text


def _elements(text: str) -> str:
    """*text* with commas for white space; a key or certificate is one element."""
    if PEM_BEGIN in text:
        return text
    return ",".join(re.sub(r"(?<!\\),\s+", " ", text).split())


def flag_set(name: str) -> bool:
    """Whether one of ``_run_flags.ROOT_FLAGS`` is switched on here.

    Raises:
        UsageError: The value is no boolean.
    """
    return _boolean(name, configured(name))


def variable_set(name: str) -> bool:
    """As :func:`flag_set`, by the environment alone."""
    return _boolean(name, os.environ.get(env_name(name)))


def _boolean(name: str, text: str | None) -> bool:
    from ig_py.numbers import BOOLS_HINT, parse_bool

    if not text:
        return False
    try:
        return parse_bool(text)
    except ValueError:
        raise UsageError(f'setting "{name}" to "{text}": {BOOLS_HINT}') from None


def _find(node: _Node, path: tuple[str, ...]) -> _Node | None:
    """The node of a key that may be nested, dotted or both: of several the most dotted counts.

    This is the order in which viper, ``ig``'s library, searches.
    """
    if not path:
        return node
    for length in range(len(path), 0, -1):
        child = node.children.get(".".join(path[:length]))
        if child is None or child.value is None:
            continue
        found = _find(child, path[length:])
        if found is not None and found.value is not None:
            return found
    return None


def _text(value: Any, key: str, line: int) -> str:
    if not isinstance(value, list):
        return _scalar(value)
    if any(isinstance(item, (Mapping, list)) for item in value):
        raise UsageError(
            f"reading configuration {_path()}:{line}: {key}: an element is not a text",
            remedy="give a list of texts",
        )
    return ",".join(_scalar(item).replace("\\", "\\\\").replace(",", "\\,") for item in value)


def _scalar(value: Any) -> str:
    from ig_py.gadget.metadata import scalar_text

    return scalar_text(value)


def _path() -> Path:
    return _explicit or Path(DEFAULT_PATH).expanduser()


def _settings() -> _Node:
    global _file
    if _file is None:
        _file = _read()
        _warn_of_unread(_file)
    return _file


def _read() -> _Node:
    path = _path()
    try:
        raw = read_argument(path, most=MAX_FILE_SIZE, pipes=_explicit is not None)
    except FileRefused as err:
        if _explicit is None and err.refusal == "absent":
            return _EMPTY
        raise UsageError(f"reading configuration {path}: {err.reason}") from None
    from ig_py import yamlsafe

    document, lines = yamlsafe.load(raw, str(path))
    if document is None:
        return _EMPTY
    if not isinstance(document, dict):
        raise UsageError(f"reading configuration {path}: not a mapping of settings")
    return _node(document, (), lines)


def _node(value: Any, path: tuple[str, ...], lines: Lines) -> _Node:
    if not isinstance(value, Mapping):
        return _Node(value, lines.line(path))
    children: dict[str, _Node] = {}
    for key, below in value.items():
        if (other := children.get(key.lower())) is not None:
            raise UsageError(
                f"reading configuration {lines.at((*path, key))}: key {key!a} is in line "
                f"{other.line} too: upper and lower case are the same",
                remedy="remove one of them",
            )
        children[key.lower()] = _node(below, (*path, key), lines)
    return _Node(value, lines.line(path), children)


def _warn_of_unread(settings: _Node) -> None:
    """Warn of each key of the file, and each variable with our prefix, that has no effect."""
    given = [name for name in os.environ if name.startswith(ENV_PREFIX)]
    if not (settings.children or given):
        return
    from ig_py.cli import _terminal
    from ig_py.cli._run_flags import ROOT_FLAGS, static_flags

    keys = {flag.param.lower() for flag in static_flags() if flag.param} | {*ROOT_FLAGS}
    where = str(_path())
    for key, node in _leaves(settings, ""):
        if key not in keys:
            why = "there is no such setting"
        elif node.value is None or node.value == {}:
            why = "it has no value"
        elif (used := _find(settings, tuple(key.split(".")))) is not node:
            why = f"the value in line {used.line if used else 0} counts"
        else:
            continue
        _terminal.warn(f"{where}:{node.line}: {key} has no effect: {why}")
    known = {env_name(key) for key in keys}
    known.update(_ENGINE_VARIABLES.values())
    for name in given:
        if name not in known and not re.fullmatch(_OF_A_SERVICE, name.removeprefix(ENV_PREFIX)):
            _terminal.warn(f"the variable {name} has no effect: there is no such setting")


def _leaves(node: _Node, prefix: str) -> Iterator[tuple[str, _Node]]:
    """(dotted key, node) of each value that is no mapping, or an empty one."""
    for key, child in node.children.items():
        if child.children:
            yield from _leaves(child, f"{prefix}{key}.")
        else:
            yield prefix + key, child
