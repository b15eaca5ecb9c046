"""Small images and stores for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ig_py.oci import digest, gojson, media
from ig_py.oci.pack import GadgetFiles, PackedImage, pack
from ig_py.oci.store import Store

CREATED = "2026-11-23T05:27:26Z"


def image(seed: str = "a", *, metadata: bytes | None = None, size: int = 64) -> PackedImage:
    """An image whose content depends on *seed*; both architectures share a wasm layer."""
    body = (seed * size).encode()
    return pack(
        {
            "amd64": GadgetFiles(ebpf=b"\x7fELF-amd64-" + body, wasm=b"\0asm-" + body),
            "arm64": GadgetFiles(ebpf=b"\x7fELF-arm64-" + body, wasm=b"\0asm-" + body),
        },
        metadata,
        builder_version="v0.1.0",
        created=CREATED,
    )


def name(short: str) -> str:
    """The full form of ``short:tag``."""
    return f"ghcr.io/inspektor-gadget/gadget/{short}"


def blob_files(store: Store) -> set[str]:
    """Hex of every blob file of *store*."""
    return {p.name for p in (store.root / "blobs").glob("*/*")}


def hexes(packed: PackedImage) -> set[str]:
    return {d.partition(":")[2] for d in packed.blobs}


def index_doc(store: Store) -> dict[str, Any]:
    doc: dict[str, Any] = json.loads((store.root / "index.json").read_bytes())
    return doc


def reindexed(packed: PackedImage, change: Any) -> PackedImage:
    """*packed* with its index document passed through *change* (dict → dict)."""
    doc = change(json.loads(packed.blobs[packed.index.digest]))
    raw = gojson.dumps(doc)
    blobs = {d: b for d, b in packed.blobs.items() if d != packed.index.digest}
    blobs[digest.of(raw)] = raw
    from ig_py.oci.artifact import Descriptor

    return PackedImage(Descriptor(media.INDEX, digest.of(raw), len(raw)), blobs)


def write_layout(root: Path, packed: PackedImage, tags: list[str]) -> None:
    """*packed* as a plain OCI layout directory, without ig-py's store code."""
    (root / "blobs" / "sha256").mkdir(parents=True)
    (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    for dig, data in packed.blobs.items():
        (root / "blobs" / "sha256" / dig.partition(":")[2]).write_bytes(data)
    entry = {"mediaType": media.INDEX, "digest": packed.index.digest, "size": packed.index.size}
    entries = [{**entry, "annotations": {media.REF_NAME: tag}} for tag in tags] or [entry]
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
