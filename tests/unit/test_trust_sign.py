"""Signing in the store; signatures that move with their image."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import trust
from support.images import blob_files, image, index_doc, name
from support.registry_cases import make_quick
from support.registry_cases import options as registry_options
from support.registry_server import FaultyRegistry, serving

from ig_py.errors import ImageNotFound, UsageError, VerificationError
from ig_py.oci import media, transfer
from ig_py.oci.archive import export_images, import_images
from ig_py.oci.options import ResolveOptions
from ig_py.oci.prune import prune
from ig_py.oci.reference import normalize
from ig_py.oci.store import Store
from ig_py.oci.trust import privatekeys
from ig_py.oci.trust.sign import FORMATS, sign
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
X = normalize("x:1")


def load(path: Path, password: str = "") -> privatekeys.PrivateKey:
    return privatekeys.load_private_key(str(path), lambda: password)


def check(store: Store, public: Path, reference: str = "x:1") -> str:
    """The signature's format."""
    options = ResolveOptions(arch="amd64", pull="never", store=store, public_keys=[str(public)])
    resolve(reference, options)
    return verify(reference, options).format


@pytest.mark.parametrize("kind", list(trust.KINDS))
@pytest.mark.parametrize("form", FORMATS)
def test_signing(store: Store, keys: Path, kind: str, form: str) -> None:
    assert sign(X, store, load(keys / f"{kind}.key"), [form]).digest == ROOT.digest
    said = check(store, keys / f"{kind}.pub")
    assert said == {"tag": "cosign tag", "referrer": "cosign referrer"}.get(form, "sigstore bundle")
    with pytest.raises(VerificationError):
        check(store, keys / "other.pub")
    # No part of it is listed as an image.
    assert [i.name for i in store.images() if i.descriptor.media_type == media.INDEX] == [
        name("x:1")
    ]


def test_openssl_agrees(store: Store, keys: Path, tmp_path: Path) -> None:
    sign(X, store, load(keys / "p256.key"))
    entry = next(i for i in store.images() if i.name == trust.sig_tag(ROOT))
    manifest = json.loads(store.read(entry.descriptor))
    layer = manifest["layers"][0]
    payload = store.blob_path(layer["digest"]).read_bytes()
    assert json.loads(payload)["critical"] == json.loads(trust.payload(ROOT.digest))["critical"] | {
        "identity": {"docker-reference": X.repository}
    }
    (tmp_path / "made").write_bytes(
        base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    )
    said = trust.openssl(
        "dgst", "-sha256", "-verify", str(keys / "p256.pub"),
        "-signature", str(tmp_path / "made"), data=payload,
    )  # fmt: skip
    assert b"Verified OK" in said


def test_two_signers(store: Store, keys: Path) -> None:
    sign(X, store, load(keys / "p256.key"))
    sign(X, store, load(keys / "other.key"))
    sign(X, store, load(keys / "other.key"))
    assert check(store, keys / "p256.pub") == check(store, keys / "other.pub") == "cosign tag"
    entry = next(i for i in store.images() if i.name == trust.sig_tag(ROOT))
    assert len(json.loads(store.read(entry.descriptor))["layers"]) == 2


def test_signing_an_absent_image(store: Store, keys: Path) -> None:
    with pytest.raises(ImageNotFound):
        sign(normalize("y"), store, load(keys / "p256.key"))
    with pytest.raises(UsageError, match="format"):
        sign(X, store, load(keys / "p256.key"), ["pgp"])


# Keys


SECRETBOX = Path(__file__).parents[1] / "wire" / "data" / "keys" / "scrypt_secretbox.key"
"""An encrypted private key in the form of cosign's ``generate-key-pair``, with its public key."""


def changed(path: Path, section: str | None, key: str, value: str) -> str:
    """The key file's PEM text with one value of its JSON document replaced."""
    lines = path.read_text().splitlines()
    document = json.loads(base64.b64decode("".join(lines[1:-1])))
    (document[section] if section else document)[key] = value
    body = base64.b64encode(json.dumps(document).encode()).decode()
    return "\n".join([lines[0], body, lines[-1]])


def test_key_files_stay_readable(store: Store) -> None:
    sign(X, store, load(SECRETBOX, "a password"))
    assert check(store, SECRETBOX.with_suffix(".pub"))
    with pytest.raises(UsageError, match="password is wrong"):
        load(SECRETBOX, "another password")


def test_the_form_of_a_new_key_file(tmp_path: Path) -> None:
    private, _ = privatekeys.write_pair(str(tmp_path / "k"), "")
    lines = private.read_text().splitlines()
    assert (lines[0], lines[-1]) == (
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----",
        "-----END ENCRYPTED SIGSTORE PRIVATE KEY-----",
    )
    document = json.loads(base64.b64decode("".join(lines[1:-1])))
    nonce = base64.b64decode(document["cipher"].pop("nonce"))
    salt = base64.b64decode(document["kdf"].pop("salt"))
    box = base64.b64decode(document.pop("ciphertext"))
    assert document == {
        "kdf": {"name": "scrypt", "params": {"N": 65536, "r": 8, "p": 1}},
        "cipher": {"name": "nacl/secretbox"},
    }
    # Poly1305's tag of 16 bytes, then as many bytes as P-256's PKCS #8 form has; no nonce.
    assert (len(salt), len(nonce), len(box)) == (32, 24, 16 + 138)


@pytest.mark.parametrize("position", [0, 15, 16, -1])
def test_a_changed_key_file_is_refused(position: int) -> None:
    lines = SECRETBOX.read_text().splitlines()
    box = bytearray(
        base64.b64decode(json.loads(base64.b64decode("".join(lines[1:-1])))["ciphertext"])
    )
    box[position] ^= 1
    text = changed(SECRETBOX, None, "ciphertext", base64.b64encode(box).decode())
    with pytest.raises(UsageError, match="password is wrong, or the file was changed"):
        privatekeys.load_private_key(text, lambda: "a password")


@pytest.mark.parametrize(
    ("section", "key", "value", "why"),
    [
        ("cipher", "nonce", "AAAA", "nonce has 3 bytes, not 24"),
        ("cipher", "nonce", "", "nonce has 0 bytes, not 24"),
        ("cipher", "name", "nacl/box", "unknown way"),
        (None, "ciphertext", "", "password is wrong, or the file was changed"),
        (None, "ciphertext", "AAAA", "password is wrong, or the file was changed"),
    ],
)
def test_malformed_key_files(section: str | None, key: str, value: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        privatekeys.load_private_key(changed(SECRETBOX, section, key, value), lambda: "a password")


def test_key_pairs(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = privatekeys.write_pair(str(tmp_path / "k"), "secret")
    assert private.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="password is wrong"):
        load(private, "other")
    sign(X, store, load(private, "secret"))
    assert check(store, public)
    with pytest.raises(UsageError, match="exists already"):
        privatekeys.write_pair(str(tmp_path / "k"), "secret")
    monkeypatch.setenv("KEY", private.read_text())
    assert privatekeys.load_private_key("env://KEY", lambda: "secret").public.id
    monkeypatch.delenv("KEY")
    with pytest.raises(UsageError, match="KEY"):
        privatekeys.load_private_key("env://KEY", lambda: "secret")


def test_greedy_key_files(tmp_path: Path) -> None:
    """A key file may not make scrypt eat the memory."""
    private, _ = privatekeys.write_pair(str(tmp_path / "k"), "")
    lines = private.read_text().splitlines()
    document = json.loads(base64.b64decode("".join(lines[1:-1])))
    document["kdf"]["params"]["N"] = 1 << 30
    body = base64.b64encode(json.dumps(document).encode()).decode()
    private.write_text("\n".join([lines[0], body, lines[-1]]))
    with pytest.raises(UsageError, match="too much memory"):
        load(private)


def test_openssl_encrypted_keys(tmp_path: Path, keys: Path) -> None:
    path = tmp_path / "enc.key"
    path.write_bytes(
        trust.openssl("pkcs8", "-topk8", "-in", str(keys / "p256.key"), "-passout", "pass:abc")
    )
    assert load(path, "abc").public.id == load(keys / "p256.key").public.id
    with pytest.raises(UsageError):
        load(path, "no")


# Moving


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(forms=st.sets(st.sampled_from(FORMATS)), seeds=st.sets(st.sampled_from("abc"), min_size=1))
def test_import_of_export(
    forms: set[str], seeds: set[str], keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """import(export(x)) == x, signatures included; and the same bytes again."""
    folder = tmp_path_factory.mktemp("move")
    one, two = Store.open(folder / "one"), Store.open(folder / "two")
    references = [normalize(f"{seed}:1") for seed in sorted(seeds)]
    for reference, seed in zip(references, sorted(seeds), strict=True):
        one.add(image(seed), str(reference))
        if forms:
            sign(reference, one, load(keys / "p256.key"), sorted(forms))
    export_images(references, one, folder / "x.tar")
    assert sorted(import_images(folder / "x.tar", two)) == sorted(map(str, references))
    assert blob_files(two) == blob_files(one)
    for reference in references if forms else []:
        assert check(two, keys / "p256.pub", str(reference))
    export_images(references, two, folder / "y.tar")
    assert (folder / "x.tar").read_bytes() == (folder / "y.tar").read_bytes()


@pytest.mark.parametrize("kept", [True, False], ids=["referrers", "no-referrers"])
def test_push_and_pull(
    store: Store, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    make_quick(monkeypatch)
    with serving(FaultyRegistry(referrers=kept)) as registry:
        reference = normalize(f"{registry.host}/te:1")
        store.tag(name("x:1"), str(reference))
        sign(reference, store, load(keys / "p256.key"), FORMATS)
        transfer.push(reference, store, registry_options(registry))
        # Pulled again with another signature: the image is there, the signature is new.
        sign(reference, store, load(keys / "rsa.key"), ["referrer"])
        transfer.push(reference, store, registry_options(registry))
        assert (("te", ROOT.digest.replace(":", "-")) in registry.manifests) is not kept
        other = Store.open(tmp_path / "other")
        transfer.pull(reference, other, registry_options(registry))
        assert blob_files(other) == blob_files(store)
    # The registry is gone: no request is made.
    for public in ("p256", "rsa"):
        options = ResolveOptions(
            arch="amd64", store=other, public_keys=[str(keys / f"{public}.pub")]
        )
        assert resolve(str(reference), options).digest == ROOT.digest


def test_signed_after_it_was_pulled(
    store: Store, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    with serving(FaultyRegistry()) as registry:
        reference = normalize(f"{registry.host}/te:1")
        store.tag(name("x:1"), str(reference))
        transfer.push(reference, store, registry_options(registry))
        other = Store.open(tmp_path / "other")
        transfer.pull(reference, other, registry_options(registry))
        sign(reference, store, load(keys / "p256.key"))
        transfer.push(reference, store, registry_options(registry))
        options = ResolveOptions(
            arch="amd64", store=other, public_keys=[str(keys / "p256.pub")],
            insecure_registries=(registry.host,),
        )  # fmt: skip
        for strict in (
            replace(options, pull="never"),
            replace(options, disallow_pulling=True),
        ):
            with pytest.raises(VerificationError, match="not found"):
                resolve(str(reference), strict)
        assert resolve(str(reference), options).digest == ROOT.digest
    assert resolve(str(reference), replace(options, pull="never"))


# Leaving


def test_pruning_after_removal(store: Store, keys: Path) -> None:
    """A tag of signatures stays when its image goes, as with `ig`."""
    sign(X, store, load(keys / "p256.key"), FORMATS)
    store.remove(name("x:1"))
    assert [i.name for i in store.images()] == [trust.sig_tag(ROOT)]
    assert prune(store).digests
    assert index_doc(store)["manifests"] == []
    assert blob_files(store) == set()


def test_pruning(store: Store, keys: Path) -> None:
    sign(X, store, load(keys / "p256.key"), FORMATS)
    intact = blob_files(store)
    assert prune(store).digests == ()
    assert blob_files(store) == intact
    store.add(image("b"), None)
    store.add(image("c"), name("y:1"))
    sign(normalize("y:1"), store, load(keys / "p256.key"), FORMATS)
    # An untagged image that leaves its signatures behind.
    store.add(image("d"), name("y:1"))
    (store.root / "blobs/sha256" / ("0" * 64)).write_bytes(b"young")
    old = store.root / "blobs/sha256" / ("1" * 64)
    old.write_bytes(b"old")
    os.utime(old, (0, 0))
    before = (store.root / "index.json").read_bytes(), blob_files(store)
    would = prune(store, dry_run=True)
    assert ((store.root / "index.json").read_bytes(), blob_files(store)) == before
    done = prune(store)
    assert done == would and done.size > 0
    left = intact | {d.partition(":")[2] for d in image("d").blobs} | {"0" * 64}
    assert blob_files(store) == left
    assert prune(store).digests == ()
    assert check(store, keys / "p256.pub")
    names = {e["annotations"].get(media.REF_NAME) for e in index_doc(store)["manifests"]
             if "annotations" in e}  # fmt: skip
    assert trust.sig_tag(ROOT) in names and trust.sig_tag(image("c").index) not in names
