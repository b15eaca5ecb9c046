"""The packer's bytes against documents that ``ig`` wrote.

The documents are rebuilt from their parsed parts. ``IG_PY_GOLDEN_OCI`` may name a
folder with more of them than the repository carries.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ig_py.oci import digest, pack
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import parse_descriptor, parse_index, parse_manifest

FOLDER = Path(os.environ.get("IG_PY_GOLDEN_OCI") or Path(__file__).parent / "data" / "oci")
NAMES = sorted(path.name.removesuffix(".index.json") for path in FOLDER.glob("*.index.json"))


def shuffled(value: Any) -> Any:
    """The same JSON value with its keys in another order."""
    if isinstance(value, dict):
        return {k: shuffled(value[k]) for k in reversed(value)}
    return [shuffled(v) for v in value] if isinstance(value, list) else value


def descriptor(value: dict[str, Any]) -> Descriptor:
    return parse_descriptor(shuffled(value), "golden")


def test_there_are_samples() -> None:
    assert len(NAMES) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_manifests_are_rebuilt(name: str) -> None:
    for arch in ("amd64", "arm64"):
        raw = (FOLDER / f"{name}.manifest.{arch}.json").read_bytes()
        parsed = parse_manifest(raw, name)
        doc = json.loads(raw)
        rebuilt = pack.manifest_bytes(
            descriptor(doc["config"]),
            [descriptor(layer) for layer in doc["layers"]],
            shuffled(doc["annotations"]),
        )
        assert rebuilt == raw
        assert parsed.artifact_type == "application/vnd.gadget.v1+binary"


@pytest.mark.parametrize("name", NAMES)
def test_indexes_are_rebuilt(name: str) -> None:
    raw = (FOLDER / f"{name}.index.json").read_bytes()
    doc = json.loads(raw)
    rebuilt = pack.index_bytes(
        [descriptor(m) for m in doc["manifests"]], shuffled(doc["annotations"])
    )
    assert rebuilt == raw
    for entry in parse_index(raw, name).manifests:
        assert entry.platform is not None
        manifest = FOLDER / f"{name}.manifest.{entry.platform.architecture}.json"
        assert digest.of(manifest.read_bytes()) == entry.digest
