"""Packing: annotations, layers, what readers would refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ig_py.errors import LimitError, MetadataError
from ig_py.oci import digest, limits, media, pack
from ig_py.oci.pack import GadgetFiles, PackedImage, image_annotations


def annotations(metadata: bytes | None) -> dict[str, str]:
    return image_annotations(metadata, builder_version="v1.2.3", created="now")


def documents(packed: PackedImage) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    index = json.loads(packed.blobs[packed.index.digest])
    return index, [json.loads(packed.blobs[m["digest"]]) for m in index["manifests"]]


EMPTY = {
    media.TITLE: "",
    media.DESCRIPTION: "",
    media.URL: "",
    media.DOCUMENTATION: "",
    media.SOURCE: "",
    media.BUILDER_VERSION: "v1.2.3",
    media.CREATED: "now",
}


def test_the_seven_annotations() -> None:
    metadata = (
        b"name: trace exec\ndescription: d\nhomepageURL: h\ndocumentationURL: o\nsourceURL: s\n"
    )
    assert annotations(metadata) == EMPTY | {
        media.TITLE: "trace exec",
        media.DESCRIPTION: "d",
        media.URL: "h",
        media.DOCUMENTATION: "o",
        media.SOURCE: "s",
    }


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"{}",
        b"name:",
        b"name: null\ndescription: ~\n",
        b"# only this\n",
        b"Name: case matters\n",
        b"annotations:\n",
    ],
)
def test_missing_values_are_empty(metadata: bytes) -> None:
    assert annotations(metadata) == EMPTY


def test_own_annotations_win_but_not_over_created() -> None:
    metadata = (
        b"name: n\nannotations:\n  org.opencontainers.image.title: mine\n"
        b"  io.inspektor-gadget.builder.version: v9\n"
        b"  org.opencontainers.image.created: never\n  x: y\n"
    )
    assert annotations(metadata) == EMPTY | {
        media.TITLE: "mine", media.BUILDER_VERSION: "v9", "x": "y",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (b"1.50", "1.50"), (b"true", "true"), (b"yes", "yes"), (b"0x10", "0x10"),
        (b"2026-01-01", "2026-01-01"), (b"'1'", "1"), (b'"a\\u00e9"', "a\xe9"), (b"null", ""),
        (b"|\n   a\n   b\n", "a\nb\n"),
    ],
)  # fmt: skip
def test_values_are_their_source_text(source: bytes, text: str) -> None:
    assert annotations(b"annotations:\n  k: " + source)["k"] == text
    assert annotations(b"name: " + source)[media.TITLE] == text


@pytest.mark.parametrize(
    ("metadata", "where"),
    [
        (b"- a\n", "map"),
        (b"name:\n  - a\n", "gadget.yaml:1"),
        (b"name: a\nversion: {b: c}\ndescription: [a]\n", "gadget.yaml:3"),
        (b"annotations: &a\n  a: *a\n", "gadget.yaml:2"),
        (b"annotations: text\n", "annotations"),
        (b"annotations: [a]\n", "gadget.yaml:1"),
        (b"annotations:\n  a: {b: c}\n", "gadget.yaml:2"),
        (b"annotations:\n  ? [a]\n  : b\n", "gadget.yaml:2"),
        (b"name: a\nname: b\n", "gadget.yaml"),
        (b"name: *x\n", "gadget.yaml"),
        (b"name: [", "gadget.yaml"),
    ],
)
def test_metadata_that_cannot_be_used(metadata: bytes, where: str) -> None:
    with pytest.raises(MetadataError) as caught:
        annotations(metadata)
    assert where in str(caught.value)


def test_anchors_and_merge_keys() -> None:
    metadata = (
        b"base: &b {name: merged, description: &x first}\n<<: *b\nname: n\n"
        b"annotations: &x\n  k: &x one\n  l: &x two\n  m: *x\n"
    )
    found = annotations(metadata)
    assert found[media.TITLE] == "n" and found[media.DESCRIPTION] == "first"
    assert (found["k"], found["l"], found["m"]) == ("one", "two", "two")


def test_without_metadata() -> None:
    packed = pack.pack(
        {"amd64": GadgetFiles(ebpf=b"1"), "arm64": GadgetFiles(ebpf=b"2")},
        None,
        builder_version="v1",
        created="2026-11-23T05:48:40Z",
    )
    index, (manifest, _) = documents(packed)
    created = {media.CREATED: "2026-11-23T05:48:40Z"}
    assert manifest == {
        "schemaVersion": 2,
        "artifactType": media.GADGET,
        "config": {
            "mediaType": media.EMPTY_CONFIG,
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
            "annotations": created,
            "data": "e30=",
        },
        "layers": [{"mediaType": media.EBPF_LAYER, "digest": digest.of(b"1"), "size": 1}],
        "annotations": created,
    }
    assert index["annotations"] == created
    assert packed.index.annotations == created


def test_layer_order_and_shared_layers() -> None:
    def files(ebpf: bytes) -> GadgetFiles:
        return GadgetFiles(ebpf=ebpf, wasm=b"w", btfgen=b"b")

    packed = pack.pack(
        {"arm64": files(b"2"), "amd64": files(b"1")}, b"name: x", builder_version="v", created="c"
    )
    index, manifests = documents(packed)
    assert [m["platform"] for m in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"}, {"architecture": "arm64", "os": "linux"},
    ]  # fmt: skip
    for manifest, ebpf in zip(manifests, (b"1", b"2"), strict=True):
        assert [(x["mediaType"], x["digest"]) for x in manifest["layers"]] == [
            (media.EBPF_LAYER, digest.of(ebpf)),
            (media.WASM_LAYER, digest.of(b"w")),
            (media.BTFGEN_LAYER, digest.of(b"b")),
        ]
    assert len(packed.blobs) == 1 + 2 + 1 + 2 + 2


def test_metadata_only() -> None:
    packed = pack.pack({}, b"name: x", builder_version="v", created="c")
    index, manifests = documents(packed)
    first, second = index["manifests"]
    assert first["digest"] == second["digest"]
    assert [m["platform"]["architecture"] for m in (first, second)] == ["amd64", "arm64"]
    assert manifests[0]["layers"] == []
    assert len(packed.blobs) == 3


def test_every_digest_is_that_of_its_blob() -> None:
    packed = pack.pack(
        {"amd64": GadgetFiles(b"1", b"2", b"3")}, b"name: <&>", builder_version="v", created="c"
    )
    assert all(digest.of(data) == key for key, data in packed.blobs.items())
    assert packed.index.size == len(packed.blobs[packed.index.digest])
    assert b"\\u003c\\u0026\\u003e" in packed.blobs[packed.index.digest]


def test_layers_beyond_the_readers_limits_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CONFIG", 10)
    with pytest.raises(LimitError, match=r"gadget\.yaml"):
        pack.pack({}, b"name: too long", builder_version="v", created="c")
    monkeypatch.setattr(limits, "_LAYERS", {media.EBPF_LAYER: 3})
    with pytest.raises(LimitError, match="ebpf"):
        pack.pack({"amd64": GadgetFiles(b"1234")}, None, builder_version="v", created="c")
