"""Digests, JSON and documents: what is refused, and the bytes that are written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ig_py.errors import IntegrityError, LimitError
from ig_py.oci import digest, gojson, limits, media
from ig_py.oci.artifact import Descriptor, Platform
from ig_py.oci.document import load_json, parse_descriptor, parse_index, parse_manifest

HEX = "ab" * 32
DIGEST = f"sha256:{HEX}"
DESCRIPTOR = {"mediaType": "a/b", "digest": DIGEST, "size": 3}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "text",
    [
        "", "sha256:", "sha256:" + "a" * 63, "sha256:" + "a" * 65, "sha256:" + "A" * 64,
        "sha256:../../../../etc/passwd", "sha512:" + "a" * 64, "md5:" + "a" * 32,
        DIGEST + "\n", " " + DIGEST, "sha256:" + "a" * 62 + "/.", "SHA256:" + "a" * 64,
    ],
)  # fmt: skip
def test_digests_refused(text: str) -> None:
    assert not digest.is_valid(text)
    with pytest.raises(IntegrityError):
        digest.split(text)


def test_digests_accepted() -> None:
    assert digest.split(DIGEST) == ("sha256", HEX)
    assert digest.split("sha512:" + HEX * 2) == ("sha512", HEX * 2)


def test_verifying() -> None:
    data = b"content"
    digest.verify(data, digest.of(data), 7, "it")
    digest.verify(data, "sha512:" + hashlib.sha512(data).hexdigest(), 7, "it")
    with pytest.raises(IntegrityError, match="instead of the declared 8"):
        digest.verify(data, digest.of(data), 8, "it")
    with pytest.raises(IntegrityError, match="longer than its declared 6"):
        digest.verify(data, digest.of(data), 6, "it")
    with pytest.raises(IntegrityError, match=digest.of(data)):
        digest.verify(data, DIGEST, 7, "it")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("<a & b>", r'"\u003ca \u0026 b\u003e"'),
        ("\u2028\u2029", r'"\u2028\u2029"'),
        ("é漢😀\x7f", '"é漢😀\x7f"'),
        ('"\\/', r'"\"\\/"'),
        ("\n\r\t\b\f\x00\x1f", r'"\n\r\t\b\f\u0000\u001f"'),
        (b"a\xffb".decode(errors="surrogateescape"), r'"a\ufffdb"'),
        ({"b": 1, "a": [True, None, {}, []]}, '{"b":1,"a":[true,null,{},[]]}'),
        ([], "[]"),
    ],
)
def test_go_json(value: Any, text: str) -> None:
    assert gojson.dumps(value).decode() == text


def test_go_json_indented() -> None:
    value = {"a": [1, {"b": "c"}], "d": [], "e": {}}
    assert gojson.dumps(value, indent="  ").decode() == json.dumps(value, indent=2)


def test_maps_are_sorted_by_bytes() -> None:
    keys = ["b", "a", "Z", "\U0001f600", "\uffee", "é"]
    assert list(gojson.sorted_map(dict.fromkeys(keys, ""))) == [
        "Z", "a", "b", "é", "\uffee", "\U0001f600",
    ]  # fmt: skip


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_go_json_reads_back(value: Any) -> None:
    assert json.loads(gojson.dumps(value)) == value
    assert json.loads(gojson.dumps(value, indent="  ")) == value


def test_descriptor_field_order() -> None:
    descriptor = Descriptor(
        "a/b", DIGEST, 3, {"z": "1", "a": "2"}, Platform("amd64"), "e30=", "t/t", ("u",)
    )
    assert list(descriptor.to_json()) == [
        "mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType",
    ]  # fmt: skip
    assert list(descriptor.to_json()["annotations"]) == ["a", "z"]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not a valid JSON"),
        (b"nope", "not a valid JSON"),
        (b'{"a":1,"a":2}', "duplicate key"),
        (b'{"a":NaN}', "NaN"),
        (b'"\xff"', "not UTF-8"),
        (b"[" * 33 + b"]" * 33, "deeper"),
        (b"[" * 100_000 + b"]" * 100_000, "deeper"),
        (b"[" + b"[]," * 200_000 + b"[]]", "more than 131072 values"),
        (b"9" * 5000, "not a valid JSON"),
    ],
)
def test_json_refused(raw: bytes, why: str) -> None:
    with pytest.raises((IntegrityError, LimitError), match=why):
        load_json(raw, "it")


def test_json_size() -> None:
    with pytest.raises(LimitError, match="larger than"):
        load_json(b" " * (limits.MAX_DOCUMENT + 1), "it")


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "sha256:../x"}, {"digest": None}, {"digest": 5}, {"size": -1}, {"size": "3"},
        {"size": 1.5}, {"size": True}, {"size": 1 << 63}, {"size": None}, {"mediaType": None},
        {"annotations": {"a": 1}}, {"annotations": []}, {"platform": []},
        {"platform": {"architecture": 1}}, {"urls": "x"}, {"data": "e30="}, {"data": "%"},
        {"Digest": DIGEST}, {"SIZE": 5}, {"artifactType": 1},
    ],
)  # fmt: skip
def test_descriptors_refused(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        parse_descriptor(DESCRIPTOR | change, "it")


def test_descriptor_inline_data() -> None:
    data = {"mediaType": "a/b", "digest": digest.of(b"{}"), "size": 2, "data": "e30="}
    assert parse_descriptor(data, "it").data == "e30="


INDEX = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [DESCRIPTOR]}
MANIFEST = {"schemaVersion": 2, "config": DESCRIPTOR, "layers": []}


def test_documents_accepted() -> None:
    assert parse_index(as_json(INDEX), "it").manifests[0].digest == DIGEST
    del (plain := dict(INDEX))["mediaType"]
    assert parse_index(as_json(plain), "it").annotations == {}
    assert parse_manifest(as_json(MANIFEST), "it").config.size == 3


@pytest.mark.parametrize(
    "change",
    [
        {"layers": []}, {"schemaVersion": 1}, {"schemaVersion": "2"}, {"manifests": None},
        {"mediaType": media.MANIFEST}, {"Manifests": []}, {"manifests": {}},
    ],
)  # fmt: skip
def test_indexes_refused(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        parse_index(as_json(INDEX | change), "it")


@pytest.mark.parametrize(
    "change",
    [
        {"manifests": []}, {"config": None}, {"layers": None}, {"mediaType": media.INDEX},
        {"Layers": []}, {"subject": 1}, {"mediaType": 5},
    ],
)  # fmt: skip
def test_manifests_refused(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        parse_manifest(as_json(MANIFEST | change), "it")


def test_document_counts() -> None:
    many = INDEX | {"manifests": [DESCRIPTOR] * (limits.MAX_INDEX_MANIFESTS + 1)}
    with pytest.raises(LimitError):
        parse_index(as_json(many), "it")
    layers = MANIFEST | {"layers": [DESCRIPTOR] * (limits.MAX_LAYERS + 1)}
    with pytest.raises(LimitError):
        parse_manifest(as_json(layers), "it")
    notes = {str(i): "" for i in range(limits.MAX_ANNOTATIONS + 1)}
    with pytest.raises(LimitError):
        parse_index(as_json(INDEX | {"annotations": notes}), "it")


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_arbitrary_bytes_never_crash_the_parsers(raw: bytes) -> None:
    for parse in (parse_index, parse_manifest):
        with pytest.raises((IntegrityError, LimitError)):
            parse(raw, "it")
