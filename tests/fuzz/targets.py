"""Readers of untrusted input, each with its invariants. A target raises when one is broken.

Every :class:`IgPyError` is a good end; its name, returned, tells the fuzzer which one.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.images import image, name

from fuzz import gadgets, grow, grow_text, mutate
from ig_py.errors import IgPyError, InvalidReference
from ig_py.oci import archive, digest, walk
from ig_py.oci.artifact import Descriptor
from ig_py.oci.document import parse_index, parse_layout_index, parse_manifest
from ig_py.oci.reference import normalize, parse_stored
from ig_py.oci.store import Store
from ig_py.oci.trust import cosign
from ig_py.oci.trust.envelope import COSE, JWS, Envelope
from ig_py.oci.trust.keys import load_public_keys

WIRE = Path(__file__).parents[1] / "wire/data/signatures.json"
# The grammar of distribution/reference, written down once more.
_REFERENCE = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)+"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128}))?"
)


@dataclass(frozen=True)
class Target:
    """*run* gets a sample and returns what became of it."""

    run: Callable[[bytes], str]
    change: Callable[..., bytes]
    seeds: Callable[[], list[bytes]]


def references(data: bytes) -> str:
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = normalize(text)
    except InvalidReference as err:
        assert len(str(err)) < 2000
        return "invalid"
    full = str(found)
    assert _REFERENCE.fullmatch(full), full
    assert normalize(full) == found == parse_stored(full)
    assert found.repository.partition("/")[2] == found.path and ".." not in found.path
    return f"{bool(found.tag)} {bool(found.digest)} {found.domain[:8]}"


def manifests(data: bytes) -> str:
    ends = []
    for parse in (parse_index, parse_layout_index, parse_manifest):
        try:
            document = parse(data, "sample")
        except IgPyError as err:
            ends.append(_kind(err))
            continue
        for descriptor in walk.children(document):
            assert digest.is_valid(descriptor.digest)
            assert 0 <= descriptor.size < 1 << 63
        ends.append("read")
    return " ".join(ends)


def archives(data: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path, store = Path(folder, "x.tar"), Store.open(Path(folder, "store"))
        path.write_bytes(data)
        try:
            names = archive.import_images(path, store)
        except IgPyError as err:
            end = _kind(err)
            left = {p for p in store.root.rglob("*") if p.is_file()}
            assert {p.name for p in left} <= {"index.json", "oci-layout", "index.json.lock"}, left
        else:
            end = "read"
            stored = {i.name for i in store.images()}
            assert stored.issuperset(names)
            # Ten thousand names may stand for one image.
            for one in {i.descriptor.digest: i for i in store.images()}.values():
                if parse_stored(one.name):
                    for descriptor in walk.walk(store, one.descriptor).blobs:
                        store.read(descriptor, walk.blob_limit(descriptor))
            for blob in (store.root / "blobs").rglob("*"):
                assert blob.is_dir() or digest.of(blob.read_bytes()).endswith(blob.name)
        assert {p.name for p in Path(folder).iterdir()} <= {"x.tar", "store"}
    return end


def signatures(data: bytes) -> str:
    """A bundle or envelope verifies only when it was signed."""
    document = json.loads(WIRE.read_text())
    descriptor = Descriptor(document["media_type"], document["image"], 1)
    ends = []
    keys = load_public_keys([document["keys"]["p256"]])
    tried: tuple[Callable[[], object], ...] = (
        lambda: cosign.check_bundle(data, descriptor, keys),
        lambda: Envelope(data, JWS).payload["targetArtifact"]["digest"] == descriptor.digest,
        lambda: Envelope(data, COSE).payload["targetArtifact"]["digest"] == descriptor.digest,
    )
    for check in tried:
        try:
            assert check()
            ends.append("holds")
        except IgPyError as err:
            ends.append(_kind(err))
    return " ".join(ends)


def _kind(err: IgPyError) -> str:
    """The error without what is different in each sample."""
    assert len(err.message) < 5000
    return re.sub(r"'.*'|\".*\"|[0-9]+|sha\S+|/\S+", "#", f"{type(err).__name__} {err.message}")[
        :90
    ]


def _reference_seeds() -> list[bytes]:
    digest_of_nothing = "sha256:" + "e3b0c442" * 8
    return [t.encode() for t in (
        "x", "trace_exec:v1", "a/b", "ghcr.io/x", "localhost:5000/x/y-z_0:1", "[::1]:80/x",
        f"reg.example/x:1@{digest_of_nothing}", "docker.io/x", "UPPER.io/x",
    )]  # fmt: skip


def _manifest_seeds() -> list[bytes]:
    packed = image("f", metadata=b"name: x\n")
    layout = json.dumps({"schemaVersion": 2, "manifests": [packed.index.to_json()]}).encode()
    return [layout, *(b for b in packed.blobs.values() if b.startswith(b'{"schema'))]


def _archive_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder, "store"))
        store.add(image("f"), name("f:1"))
        archive.export_images([normalize("f:1")], store, Path(folder, "x.tar"))
        return [Path(folder, "x.tar").read_bytes()]


def _signature_seeds() -> list[bytes]:
    rows = json.loads(WIRE.read_text())["rows"]
    wanted = ("cosign-bundle-p256", "notation-jws", "notation-cose")
    return [base64.b64decode(rows[row]["blobs"][-1]) for row in wanted]


TARGETS = {
    "references": Target(references, mutate.raw, _reference_seeds),
    "manifests": Target(manifests, grow_text.json_document, _manifest_seeds),
    "archives": Target(archives, grow_text.archive, _archive_seeds),
    "signatures": Target(signatures, mutate.document, _signature_seeds),
    "objects": Target(gadgets.objects(_kind), grow.ebpf_object, gadgets.object_seeds),
    "documents": Target(gadgets.documents(_kind), grow_text.yaml_document, gadgets.document_seeds),
    "modules": Target(gadgets.modules(_kind), gadgets.grown_module, gadgets.module_seeds),
}
__all__ = ["TARGETS", "Target"]
