"""Index and manifest documents: parsed under limits, refused when ambiguous.

A document that two parsers read differently is an attack (CVE-2021-41190). Refused are
duplicate keys, keys that differ only by case (Go's encoding/json accepts either) and documents
that are both an index and a manifest.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from ig_py.errors import IntegrityError, LimitError
from ig_py.oci import digest as digests
from ig_py.oci import limits, media
from ig_py.oci.artifact import Descriptor, Platform
from ig_py.records import dataclass, field

_KNOWN_KEYS = {
    key.lower(): key
    for key in (
        "schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests",
        "subject", "annotations", "digest", "size", "urls", "data", "platform",
        "architecture", "os",
    )
}  # fmt: skip
_MAX_SIZE = (1 << 63) - 1


@dataclass(frozen=True)
class Index:
    """An image index (or a layout's ``index.json``)."""

    raw: bytes = field(repr=False)
    doc: dict[str, Any] = field(repr=False)
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """An image manifest."""

    raw: bytes = field(repr=False)
    doc: dict[str, Any] = field(repr=False)
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    artifact_type: str = ""
    subject: Descriptor | None = None


def load_json(
    raw: bytes,
    what: str,
    limit: int = limits.MAX_DOCUMENT,
    values: int | None = limits.MAX_VALUES,
) -> Any:
    """Strict JSON: UTF-8, no duplicate keys, no NaN; nesting, size and *values* limited."""
    if len(raw) > limit:
        raise LimitError(f"{what}: larger than {limits.human(limit)}")
    # Before each value is a comma, a colon, a bracket or nothing: an empty list of two bytes
    # takes a hundred in memory.
    if values is not None and sum(map(raw.count, (b",", b":", b"["))) > values:
        raise LimitError(f"{what}: more than {values} values")
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise LimitError(f"{what}: nested deeper than {limits.MAX_DEPTH} levels") from None
    except ValueError as err:
        raise IntegrityError(f"{what}: not a valid JSON document: {_reason(err)}") from None
    if _depth(value) > limits.MAX_DEPTH:
        raise LimitError(f"{what}: nested deeper than {limits.MAX_DEPTH} levels")
    return value


def _reason(err: ValueError) -> str:
    return "not UTF-8 text" if isinstance(err, UnicodeDecodeError) else str(err)[:200]


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ValueError(f"duplicate key {key[:80]!r}")
        out[key] = value
    return out


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = below
    return depth


def parse_index(raw: bytes, what: str) -> Index:
    """An index; *what* names it in errors.

    Raises:
        IntegrityError: It is malformed.
        LimitError: It is too large, or lists too many manifests.
    """
    index = _index(raw, what, limits.MAX_DOCUMENT, limits.MAX_VALUES)
    if len(index.manifests) > limits.MAX_INDEX_MANIFESTS:
        raise LimitError(f"{what}: more than {limits.MAX_INDEX_MANIFESTS} manifests")
    return index


def parse_layout_index(raw: bytes, what: str) -> Index:
    """The ``index.json`` of an image layout or archive; *what* names it in errors.

    Raises:
        IntegrityError: It is malformed.
        LimitError: It is too large, or lists too many images.
    """
    index = _index(raw, what, limits.MAX_STORE_INDEX, limits.MAX_LAYOUT_VALUES)
    if len(index.manifests) > limits.MAX_LAYOUT_IMAGES:
        raise LimitError(f"{what}: more than {limits.MAX_LAYOUT_IMAGES} images")
    return index


def parse_store_index(raw: bytes, what: str) -> Index:
    """The ``index.json`` of a store, of any number of images; *what* names it in errors.

    Raises:
        IntegrityError: It is malformed.
        LimitError: It is too large.
    """
    return _index(raw, what, limits.MAX_STORE_INDEX, None)


def _index(raw: bytes, what: str, limit: int, values: int | None) -> Index:
    doc = _document(raw, what, limit, values)
    _check_kind(doc, what, media.INDEX, wanted="manifests", other="layers")
    entries = _list(doc.get("manifests"), f"{what}: manifests")
    return Index(
        raw,
        doc,
        tuple(parse_descriptor(e, f"{what}: manifest {i}") for i, e in enumerate(entries)),
        _annotations(doc.get("annotations"), what),
    )


def parse_manifest(raw: bytes, what: str) -> Manifest:
    """An image manifest; *what* names it in errors.

    Raises:
        IntegrityError: It is malformed.
        LimitError: It is too large, or has too many layers.
    """
    doc = _document(raw, what, limits.MAX_DOCUMENT, limits.MAX_VALUES)
    _check_kind(doc, what, media.MANIFEST, wanted="layers", other="manifests")
    layers = _list(doc.get("layers"), f"{what}: layers")
    if len(layers) > limits.MAX_LAYERS:
        raise LimitError(f"{what}: more than {limits.MAX_LAYERS} layers")
    subject = doc.get("subject")
    return Manifest(
        raw,
        doc,
        parse_descriptor(doc.get("config"), f"{what}: config"),
        tuple(parse_descriptor(e, f"{what}: layer {i}") for i, e in enumerate(layers)),
        _annotations(doc.get("annotations"), what),
        _text(doc.get("artifactType", ""), f"{what}: artifactType"),
        None if subject is None else parse_descriptor(subject, f"{what}: subject"),
    )


def parse_descriptor(value: Any, what: str) -> Descriptor:
    """A descriptor with a checked digest; inline data must match it."""
    doc = _object(value, what)
    digest = _text(doc.get("digest"), f"{what}: digest")
    if not digests.is_valid(digest):
        raise IntegrityError(f"{what}: invalid digest {digest[:160]!r}")
    size = doc.get("size")
    if type(size) is not int or not 0 <= size <= _MAX_SIZE:
        raise IntegrityError(f"{what}: invalid size {str(size)[:40]!r}")
    data = _text(doc.get("data") or "", f"{what}: data")
    if data:
        digests.verify(_base64(data, what), digest, size, f"{what}: data")
    urls = doc.get("urls")
    return Descriptor(
        _text(doc.get("mediaType"), f"{what}: mediaType"),
        digest,
        size,
        _annotations(doc.get("annotations"), what),
        _platform(doc.get("platform"), what),
        data,
        _text(doc.get("artifactType") or "", f"{what}: artifactType"),
        () if urls is None else tuple(_text(u, f"{what}: url") for u in _list(urls, what)),
    )


def inline_data(descriptor: Descriptor) -> bytes | None:
    """Content carried by the descriptor itself (verified when it was parsed)."""
    return base64.b64decode(descriptor.data) if descriptor.data else None


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise IntegrityError(f"{what}: data is not base64") from None


def _document(raw: bytes, what: str, limit: int, values: int | None) -> dict[str, Any]:
    doc = _object(load_json(raw, what, limit, values), what)
    version = doc.get("schemaVersion")
    if type(version) is not int or version != 2:
        raise IntegrityError(f"{what}: schemaVersion is {str(version)[:40]} instead of 2")
    return doc


def _check_kind(doc: dict[str, Any], what: str, kind: str, *, wanted: str, other: str) -> None:
    if wanted in doc and other in doc:
        raise IntegrityError(f"{what}: is both an index and a manifest")
    declared = doc.get("mediaType", kind)
    if declared not in (kind, ""):
        raise IntegrityError(f"{what}: declares media type {str(declared)[:80]!r}, not {kind}")
    if wanted not in doc:
        raise IntegrityError(f"{what}: has no {wanted}")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise IntegrityError(f"{what}: not a JSON object")
    for key in value:
        known = _KNOWN_KEYS.get(key.lower())
        if known is not None and known != key:
            raise IntegrityError(f"{what}: key {key!r} is ambiguous with {known!r}")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise IntegrityError(f"{what}: not a list")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise IntegrityError(f"{what}: not a string")
    return value


def _annotations(value: Any, what: str) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise IntegrityError(f"{what}: annotations are not a map of strings")
    if len(value) > limits.MAX_ANNOTATIONS:
        raise LimitError(f"{what}: more than {limits.MAX_ANNOTATIONS} annotations")
    return value


def _platform(value: Any, what: str) -> Platform | None:
    if value is None:
        return None
    doc = _object(value, f"{what}: platform")
    return Platform(
        _text(doc.get("architecture", ""), f"{what}: architecture"),
        _text(doc.get("os", ""), f"{what}: os"),
    )
