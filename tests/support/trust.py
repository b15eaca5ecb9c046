"""Signatures made by openssl, put together without ig-py's own signing."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from ig_py.oci import media
from ig_py.oci.artifact import Descriptor
from ig_py.oci.store import Store

COSIGN = "application/vnd.dev.cosign.artifact.sig.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
NOTATION = "application/vnd.cncf.notary.signature"
KINDS = {
    "p256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "ed25519": ["-algorithm", "ED25519"],
}


def openssl(*argv: str, data: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *argv], input=data, capture_output=True, check=True).stdout


def make_key(folder: Path, kind: str = "p256", name: str = "") -> tuple[Path, Path]:
    """(private key, public key), both PEM files."""
    private, public = folder / f"{name or kind}.key", folder / f"{name or kind}.pub"
    private.write_bytes(openssl("genpkey", *KINDS[kind]))
    public.write_bytes(openssl("pkey", "-in", str(private), "-pubout"))
    return private, public


def sign_bytes(private: Path, data: bytes) -> bytes:
    if "ed25519" in private.name:
        blob = private.with_suffix(".data")
        blob.write_bytes(data)
        return openssl("pkeyutl", "-sign", "-inkey", str(private), "-rawin", "-in", str(blob))
    return openssl("dgst", "-sha256", "-sign", str(private), data=data)


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def payload(signed: str) -> bytes:
    """A simple signing payload for the digest *signed*."""
    return json.dumps(
        {
            "critical": {
                "identity": {"docker-reference": "registry.test/x"},
                "image": {"docker-manifest-digest": signed},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    ).encode()


def statement(signed: str, predicate: str = "https://sigstore.dev/cosign/sign/v1") -> bytes:
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": signed.removeprefix("sha256:")}}],
            "predicateType": predicate,
        }
    ).encode()


def bundle(private: Path, content: bytes, **changes: Any) -> bytes:
    kind = "application/vnd.in-toto+json"
    signed = f"DSSEv1 {len(kind)} {kind} {len(content)} ".encode() + content
    envelope = {
        "payload": base64.b64encode(content).decode(),
        "payloadType": kind,
        "signatures": [{"sig": base64.b64encode(sign_bytes(private, signed)).decode()}],
    }
    document = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "x"}},
        "dsseEnvelope": {**envelope, **changes},
    }
    return json.dumps(document).encode()


def manifest(
    layers: list[tuple[str, bytes, dict[str, str]]],
    *,
    subject: Descriptor | None = None,
    artifact: str = "",
    config: str = "application/vnd.oci.image.config.v1+json",
) -> tuple[Descriptor, dict[str, bytes]]:
    """A manifest of *layers* (media type, content, annotations), and all its blobs."""
    blobs = {digest(b"{}"): b"{}"}
    described = []
    for kind, content, notes in layers:
        blobs[digest(content)] = content
        described.append(
            {"mediaType": kind, "digest": digest(content), "size": len(content),
             "annotations": notes}
        )  # fmt: skip
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "config": {"mediaType": config, "digest": digest(b"{}"), "size": 2},
        "layers": described,
    }
    if artifact:
        document["artifactType"] = artifact
    if subject:
        document["subject"] = {
            "mediaType": subject.media_type, "digest": subject.digest, "size": subject.size,
        }  # fmt: skip
    raw = json.dumps(document).encode()
    blobs[digest(raw)] = raw
    return Descriptor(media.MANIFEST, digest(raw), len(raw)), blobs


def simple_layer(private: Path, content: bytes) -> tuple[str, bytes, dict[str, str]]:
    made = base64.b64encode(sign_bytes(private, content)).decode()
    kind = "application/vnd.dev.cosign.simplesigning.v1+json"
    return kind, content, {"dev.cosignproject.cosign/signature": made}


def put(store: Store, root: Descriptor, blobs: dict[str, bytes], tag: str | None = None) -> None:
    """Add a document to *store*, below *tag* or untagged."""
    with store.ingest() as session:
        for dig, data in blobs.items():
            described = root if dig == root.digest else Descriptor("blob", dig, len(data))
            session.write(described, [data])
        store.commit(session, [(root, tag)])


def sig_tag(image: Descriptor) -> str:
    return image.digest.replace(":", "-") + ".sig"


def sign_legacy(store: Store, image: Descriptor, private: Path) -> None:
    root, blobs = manifest([simple_layer(private, payload(image.digest))])
    put(store, root, blobs, sig_tag(image))


def sign_referrer(store: Store, image: Descriptor, private: Path) -> None:
    layer = simple_layer(private, payload(image.digest))
    root, blobs = manifest([layer], subject=image, config=COSIGN)
    put(store, root, blobs)


def sign_bundle(store: Store, image: Descriptor, private: Path) -> None:
    content = bundle(private, statement(image.digest))
    root, blobs = manifest([(BUNDLE, content, {})], subject=image, artifact=BUNDLE)
    put(store, root, blobs)


SIGNERS = {"tag": sign_legacy, "referrer": sign_referrer, "bundle": sign_bundle}
