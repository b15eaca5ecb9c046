"""Debian's docker-registry with TLS and htpasswd: login, signed images, skopeo's copies."""

from __future__ import annotations

import io
import json
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import trust
from support.images import blob_files, image
from support.processes import free_port, running
from support.registry_server import make_certificate

from ig_py.cli import main
from ig_py.errors import RegistryDenied, VerificationError
from ig_py.oci.options import ResolveOptions
from ig_py.oci.reference import normalize
from ig_py.oci.registry import RegistryOptions
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull, push
from ig_py.oci.trust.privatekeys import load_private_key
from ig_py.oci.trust.sign import FORMATS, sign
from ig_py.resolver import resolve, verify

pytestmark = pytest.mark.needs("registry", "openssl")

# bcrypt of "p4ss"
HTPASSWD = "user:$2b$04$abcdefghijklmnopqrstuuH8QK8mtSiuEI/Eb8T7qQmEPNunp/qE."


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(host:port, its certificate)"""
    folder = tmp_path_factory.mktemp("registry")
    certificate, key = make_certificate(folder)
    (folder / "htpasswd").write_text(HTPASSWD + "\n")
    port = free_port()
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "auth": {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}},
        "http": {
            "addr": f"127.0.0.1:{port}",
            "tls": {"certificate": str(certificate), "key": str(key)},
        },
    }
    (folder / "config.yml").write_text(json.dumps(settings))
    context = ssl.create_default_context(cafile=str(certificate))

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"https://localhost:{port}/v2/", context=context, timeout=5)
        except urllib.error.HTTPError as err:
            return err.code == 401
        except OSError:
            return False
        return True

    argv = ["docker-registry", "serve", str(folder / "config.yml")]
    with running(argv, folder / "registry.log", answers):
        yield f"localhost:{port}", certificate


@pytest.fixture
def authfile(registry: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Credentials as ``login`` keeps them."""
    host, certificate = registry
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    path = str(tmp_path / "auth.json")
    for password, code in ((b"wrong", 1), (b"p4ss\n", 0)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(password)))
        argv = ["login", host, "-u", "user", "--password-stdin", "--authfile", path]
        assert main(argv) == code
        assert Path(path).exists() is (code == 0)
    return path


def test_signed_images(registry: tuple[str, Path], authfile: str, tmp_path: Path) -> None:
    """Sign without a registry, push, pull elsewhere, verify without a registry."""
    options = RegistryOptions(authfile)
    reference = normalize(f"{registry[0]}/gadgets/signed:1")
    private, public = trust.make_key(tmp_path)
    one, two = Store.open(tmp_path / "one"), Store.open(tmp_path / "two")
    one.add(image("s"), str(reference))
    sign(reference, one, load_private_key(str(private), lambda: ""), FORMATS)
    with pytest.raises(RegistryDenied):
        push(reference, one, RegistryOptions(str(_empty(tmp_path))))
    push(reference, one, options)
    push(reference, one, options)
    pull(reference, two, options)
    assert blob_files(two) == blob_files(one)
    offline = ResolveOptions(arch="amd64", pull="never", store=two, public_keys=[str(public)])
    assert resolve(str(reference), offline).digest == image("s").index.digest
    # Each of the three conditions alone is enough.
    for tag in (i.name for i in two.images() if i.name.startswith("sha256-")):
        assert tag.endswith(".sig")
        two.remove(tag)
    assert verify(str(reference), offline).format in ("cosign referrer", "sigstore bundle")


def test_unsigned_images(registry: tuple[str, Path], authfile: str, tmp_path: Path) -> None:
    reference = normalize(f"{registry[0]}/gadgets/unsigned:1")
    store = Store.open(tmp_path / "store")
    store.add(image("u"), str(reference))
    push(reference, store, RegistryOptions(authfile))
    _, public = trust.make_key(tmp_path)
    options = ResolveOptions(
        arch="amd64", store=Store.open(tmp_path / "new"), public_keys=[str(public)],
        authfile=authfile,
    )  # fmt: skip
    with pytest.raises(VerificationError, match="signature not found"):
        resolve(str(reference), options)


@pytest.mark.needs("skopeo")
def test_copies_by_skopeo(registry: tuple[str, Path], authfile: str, tmp_path: Path) -> None:
    """An image and its tag of signatures, copied to a layout by skopeo, verify there."""
    host, certificate = registry
    reference = normalize(f"{host}/gadgets/copied:1")
    private, public = trust.make_key(tmp_path)
    store = Store.open(tmp_path / "store")
    store.add(image("k"), str(reference))
    sign(reference, store, load_private_key(str(private), lambda: ""))
    push(reference, store, RegistryOptions(authfile))
    (tmp_path / "certs").mkdir()
    shutil.copy(certificate, tmp_path / "certs" / "ca.crt")
    for tag in ("1", trust.sig_tag(image("k").index)):
        subprocess.run(
            ["skopeo", "copy", "--all", "--src-authfile", authfile,
             "--src-cert-dir", str(tmp_path / "certs"),
             f"docker://{host}/gadgets/copied:{tag}", f"oci:{tmp_path}/layout:{tag}"],
            check=True,
            capture_output=True,
        )  # fmt: skip
    options = ResolveOptions(arch="amd64", public_keys=[str(public)])
    assert resolve(f"{tmp_path}/layout:1", options).digest == image("k").index.digest
    _, other = trust.make_key(tmp_path, "p256", "other")
    with pytest.raises(VerificationError, match="not signed by"):
        resolve(f"{tmp_path}/layout:1", ResolveOptions(arch="amd64", public_keys=[str(other)]))


def _empty(folder: Path) -> Path:
    path = folder / "empty.json"
    path.write_text("{}")
    return path
