"""Cosign's formats, signed by openssl; and what must not pass for a signature."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from support import trust
from support.images import image, name

from ig_py.errors import UsageError, VerificationError
from ig_py.oci import digest as digests
from ig_py.oci import media
from ig_py.oci.archive import export_images
from ig_py.oci.artifact import Descriptor
from ig_py.oci.options import ResolveOptions
from ig_py.oci.reference import normalize
from ig_py.oci.store import Store
from ig_py.oci.trust.keys import UPSTREAM, UPSTREAM_KEY, key_id, load_public_keys
from ig_py.resolver import resolve, verify

pytestmark = pytest.mark.needs("openssl")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for kind in trust.KINDS:
        trust.make_key(folder, kind)
    trust.make_key(folder, "p256", "other")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "store")
    store.add(image("a"), name("x:1"))
    return store


ROOT = image("a").index


def options(store: Store, *public: Path | str) -> ResolveOptions:
    return ResolveOptions(
        arch="amd64", pull="never", store=store, public_keys=[str(p) for p in public]
    )


@pytest.mark.parametrize("kind", list(trust.KINDS))
@pytest.mark.parametrize("form", list(trust.SIGNERS))
def test_formats_and_keys(store: Store, keys: Path, kind: str, form: str) -> None:
    trust.SIGNERS[form](store, ROOT, keys / f"{kind}.key")
    assert resolve("x:1", options(store, keys / f"{kind}.pub")).digest == ROOT.digest
    wrong = "rsa" if kind != "rsa" else "p256"
    with pytest.raises(VerificationError, match="not signed by the given key"):
        resolve("x:1", options(store, keys / f"{wrong}.pub"))
    # Any of several keys is enough; text is as good as a file.
    text = (keys / f"{kind}.pub").read_text()
    assert resolve("x:1", options(store, keys / "other.pub", text))


def test_the_verdict_names_the_key(store: Store, keys: Path) -> None:
    trust.sign_legacy(store, ROOT, keys / "p256.key")
    der = trust.openssl("pkey", "-pubin", "-in", str(keys / "p256.pub"), "-outform", "DER")
    verdict = verify("x:1", options(store, keys / "p256.pub"))
    assert (verdict.by, verdict.format) == (
        trust.digest(der).removeprefix("sha256:"), "cosign tag",
    )  # fmt: skip


def test_from_paths(tmp_path: Path, store: Store, keys: Path) -> None:
    trust.sign_legacy(store, ROOT, keys / "p256.key")
    trust.sign_bundle(store, ROOT, keys / "p256.key")
    export_images([normalize("x:1")], store, tmp_path / "x.tar")
    for path in (store.root, tmp_path / "x.tar"):
        assert resolve(str(path), options(store, keys / "p256.pub")).digest == ROOT.digest
        with pytest.raises(VerificationError):
            resolve(str(path), options(store, keys / "other.pub"))


def test_the_referrers_tag(store: Store, keys: Path) -> None:
    """What oras and cosign leave in registries without referrers: an index under a tag."""
    layer = trust.simple_layer(keys / "p256.key", trust.payload(ROOT.digest))
    root, blobs = trust.manifest([layer], subject=ROOT, config=trust.COSIGN)
    with store.ingest() as session:
        for dig, data in blobs.items():
            session.write(Descriptor("blob", dig, len(data)), [data])
        entry = {**root.to_json(), "artifactType": media.EMPTY_CONFIG}
        raw = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
        index = Descriptor(media.INDEX, digests.of(raw), len(raw))
        session.write(index, [raw])
        store.commit(session, [(index, ROOT.digest.replace(":", "-"))])
    assert verify("x:1", options(store, keys / "p256.pub")).format == "cosign referrer"


def test_unsigned(store: Store, keys: Path) -> None:
    with pytest.raises(VerificationError, match="signature not found") as caught:
        resolve("x:1", options(store, keys / "p256.pub"))
    assert "--public-keys" in str(caught.value)
    with pytest.raises(VerificationError, match="no verification method"):
        resolve("x:1", options(store))


def test_a_signature_of_another_image(store: Store, keys: Path) -> None:
    """A good signature put where another image's belongs."""
    other = image("b").index
    for index, (layer, kinds) in enumerate(
        [
            (trust.simple_layer(keys / "p256.key", trust.payload(other.digest)), {}),
            (
                (trust.BUNDLE, trust.bundle(keys / "p256.key", trust.statement(other.digest)), {}),
                {"subject": ROOT, "artifact": trust.BUNDLE},
            ),
        ]
    ):
        root, blobs = trust.manifest([layer], **kinds)  # type: ignore[arg-type]
        trust.put(store, root, blobs, None if index else trust.sig_tag(ROOT))
        with pytest.raises(VerificationError, match="does not correspond"):
            resolve("x:1", options(store, keys / "p256.pub"))


def test_an_attestation_is_no_signature(store: Store, keys: Path) -> None:
    sbom = trust.statement(ROOT.digest, "https://spdx.dev/Document")
    content = trust.bundle(keys / "p256.key", sbom)
    root, blobs = trust.manifest([(trust.BUNDLE, content, {})], subject=ROOT, artifact=trust.BUNDLE)
    trust.put(store, root, blobs)
    with pytest.raises(VerificationError, match="not an image signature"):
        resolve("x:1", options(store, keys / "p256.pub"))


@pytest.mark.parametrize(
    "change",
    [
        {"signatures": []},
        {"signatures": [{"sig": "AA=="}, {"sig": "AA=="}]},
        {"signatures": [{"sig": 7}]},
        {"signatures": "x"},
        {"payload": "%%"},
        {"payloadType": "text/plain"},
        {"payload": None},
    ],
)
def test_broken_bundles(store: Store, keys: Path, change: dict[str, object]) -> None:
    content = trust.bundle(keys / "p256.key", trust.statement(ROOT.digest), **change)
    root, blobs = trust.manifest([(trust.BUNDLE, content, {})], subject=ROOT, artifact=trust.BUNDLE)
    trust.put(store, root, blobs)
    with pytest.raises(VerificationError):
        resolve("x:1", options(store, keys / "p256.pub"))


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"critical":null}', b'{"critical":{"image":[]}}',
     b'{"critical":{},"critical":{}}', b"[" * 5000],
)  # fmt: skip
def test_broken_payloads_that_are_signed(store: Store, keys: Path, content: bytes) -> None:
    root, blobs = trust.manifest([trust.simple_layer(keys / "p256.key", content)])
    trust.put(store, root, blobs, trust.sig_tag(ROOT))
    with pytest.raises(VerificationError):
        resolve("x:1", options(store, keys / "p256.pub"))


def test_changed_payloads(store: Store, keys: Path) -> None:
    """One blank more: the digest fits, the signature does not."""
    kind, content, notes = trust.simple_layer(keys / "p256.key", trust.payload(ROOT.digest))
    root, blobs = trust.manifest([(kind, content + b" ", notes)])
    trust.put(store, root, blobs, trust.sig_tag(ROOT))
    with pytest.raises(VerificationError, match="not signed by"):
        resolve("x:1", options(store, keys / "p256.pub"))


def test_one_good_signature_among_others(store: Store, keys: Path) -> None:
    good = trust.payload(ROOT.digest)
    layers = [trust.simple_layer(keys / f"{k}.key", good) for k in ("other", "p256")]
    root, blobs = trust.manifest(layers)
    trust.put(store, root, blobs, trust.sig_tag(ROOT))
    assert resolve("x:1", options(store, keys / "p256.pub"))


def test_too_many_signatures(store: Store, keys: Path) -> None:
    layer = trust.simple_layer(keys / "p256.key", trust.payload(ROOT.digest))
    root, blobs = trust.manifest([layer] * 51)
    trust.put(store, root, blobs, trust.sig_tag(ROOT))
    with pytest.raises(VerificationError, match="more than 50 signatures"):
        resolve("x:1", options(store, keys / "p256.pub"))


def test_damaged_signatures_do_not_pass(store: Store, keys: Path) -> None:
    trust.sign_legacy(store, ROOT, keys / "p256.key")
    blob = store.blob_path(trust.digest(trust.payload(ROOT.digest)))
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-1] + b" ")
    with pytest.raises(VerificationError, match="digest"):
        resolve("x:1", options(store, keys / "p256.pub"))


def test_the_verified_content_is_loaded(store: Store, keys: Path) -> None:
    """The tag moves between verification and reading: the image verified is read."""
    trust.sign_legacy(store, ROOT, keys / "p256.key")

    class Moving(Store):
        def index(self):  # type: ignore[no-untyped-def]
            found = super().index()
            Store.add(Store.open(self.root), image("evil"), name("x:1"))
            return found

    moving = replace(options(store, keys / "p256.pub"), store=Moving(store.root))
    assert resolve("x:1", moving).layers[0].data.endswith(b"a" * 64)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("/does/not/exist", "No such file"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "not valid"),
        ("-----BEGIN PUBLIC KEY-----", "no PEM block"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "holds a certificate"),
    ],
)
def test_keys_that_are_none(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        load_public_keys([text])


def test_weak_keys(tmp_path: Path) -> None:
    pem = trust.openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024")
    public = trust.openssl("pkey", "-pubout", data=pem).decode()
    with pytest.raises(UsageError, match="1024 bits"):
        load_public_keys([public])


def test_the_built_in_key_is_the_default() -> None:
    assert ResolveOptions().public_keys == (UPSTREAM,)
    assert len(load_public_keys([UPSTREAM_KEY, UPSTREAM])) == 1


def test_the_usual_kind_of_key_is_read_without_the_loader_for_all() -> None:
    code = (
        "import sys; from ig_py.oci.trust.keys import UPSTREAM, UPSTREAM_KEY, load_public_keys\n"
        "[key] = load_public_keys([UPSTREAM_KEY]); assert not key.verifies(b'', b'')\n"
        "assert 'cryptography.hazmat.primitives.serialization' not in sys.modules; print(key.id)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    pem = load_pem_public_key(UPSTREAM_KEY.encode())
    assert done.stdout.strip() == key_id(pem)


def test_a_point_that_is_not_on_the_curve_is_no_key() -> None:
    lines = UPSTREAM_KEY.splitlines()
    with pytest.raises(UsageError, match="not valid"):
        load_public_keys(["\n".join([lines[0], lines[1], lines[2][:-6] + "AAAA==", lines[3]])])
