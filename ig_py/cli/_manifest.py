"""``run --file``: a gadget and its parameters in YAML (docs/reference/cli.md#manifests)."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from ig_py.cli import _terminal
from ig_py.errors import IgPyError, LimitError, UsageError
from ig_py.host.safe_open import FileRefused, read_argument
from ig_py.records import dataclass, field
from ig_py.yamlsafe import MAX_BYTES, Lines, load_texts

KIND = "instance-spec"
VERSION = "1"
_KNOWN = frozenset({"apiVersion", "kind", "image", "id", "name", "tags", "nodes", "paramValues"})
_ID = re.compile(r"[0-9a-f]{32}\Z")
_NAME = re.compile(r"[a-z0-9_-]{1,32}\Z")


@dataclass(frozen=True)
class Manifest:
    """*values*: full parameter name → text."""

    image: str
    values: Mapping[str, str] = field(default_factory=dict)


def read(place: str) -> Manifest:
    """The manifest in a file, at an address of HTTP, or (``-``) on standard input.

    Raises:
        UsageError: There is none, or more than one.
        MetadataError: It is not YAML.
        LimitError: It is too large or nested too deeply.
    """
    source = "standard input" if place == "-" else place
    raw = _bytes(place)
    if raw.lstrip()[:1] == b"<":
        raise UsageError(
            f"reading manifest {source}: it is a web page, not YAML",
            remedy="give the address of the file itself",
        )
    found = [_manifest(*document) for document in load_texts(raw, source) if document[0]]
    if len(found) != 1:
        raise UsageError(
            f"reading manifest {source}: it has {len(found)} gadgets, one is run at a time",
            remedy="put each into a file of its own" if found else "",
        )
    if _is_address(place):
        from ig_py.oci.paths import is_path

        # A downloaded manifest must not choose files of this machine to run.
        if is_path(found[0].image):
            raise UsageError(
                f"reading manifest {source}: its image is a path, {found[0].image!a}",
                remedy="download the manifest, look at it, and give the file",
            )
    return found[0]


def _is_address(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _bytes(place: str) -> bytes:
    """The content, at most one byte more than the limit."""
    if _is_address(place):
        from ig_py.oci.http_request import http_request

        try:
            return http_request(place, limit=MAX_BYTES)
        except IgPyError as error:
            raise UsageError(f"downloading manifest: {error.message}") from error
    try:
        if place == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"reading manifest {place}: {error.strerror}") from error
    try:
        return read_argument(place, most=MAX_BYTES)
    except FileRefused as error:
        if error.refusal == "size":
            raise LimitError(f"reading manifest {place}: {error.reason}") from None
        raise UsageError(f"reading manifest {place}: {error.reason}") from None


def _manifest(document: Any, lines: Lines) -> Manifest:
    def bad(key: str, why: str) -> UsageError:
        return UsageError(f"reading manifest {lines.at([key])}: {why}")

    def text(key: str) -> str:
        value = document.get(key)
        if value is not None and not isinstance(value, str):
            raise bad(key, f"{key} is no text")
        return value or ""

    def texts(key: str) -> list[str]:
        value = document.get(key)
        if value is not None and not isinstance(value, list):
            raise bad(key, f"{key} is no list")
        if not all(isinstance(item, str) for item in value or ()):
            raise bad(key, f"{key} is no list of texts")
        return value or []

    if not isinstance(document, dict):
        raise bad("", "it is no mapping")
    if text("kind") != KIND:
        raise bad("kind", f"kind is {text('kind')!a}, not {KIND!r}")
    if text("apiVersion") != VERSION:
        raise bad("apiVersion", f"apiVersion is {text('apiVersion')!a}, not {VERSION}")
    if not text("image"):
        raise bad("image", "it names no image")
    if text("id") and not _ID.match(text("id")):
        raise bad("id", f"{text('id')!a} is no id of 32 hexadecimal digits")
    if text("name") and not _NAME.match(text("name")):
        raise bad("name", f"{text('name')!a} is no name of up to 32 of a-z, 0-9, - and _")
    if any("," in tag for tag in texts("tags")):
        raise bad("tags", "a tag has a comma")
    texts("nodes")
    for key in document.keys() - _KNOWN:
        _terminal.warn(f"manifest {lines.at([key])}: ignoring {key!a}")
    return Manifest(text("image"), _values(document.get("paramValues"), bad))


def _values(given: Any, bad: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise bad("paramValues", "paramValues is no mapping")
    for key, value in given.items():
        if value is not None and not isinstance(value, str):
            raise bad("paramValues", f"the value of {key!a} is no text")
    return {key: value or "" for key, value in given.items()}
