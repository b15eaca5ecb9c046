"""Images that oras and podman copied."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import trust
from support.engine import unmount_below
from support.images import blob_files, image
from support.registry import docker_registry

from ig_py.errors import VerificationError
from ig_py.oci.archive import import_images
from ig_py.oci.options import ResolveOptions
from ig_py.oci.reference import normalize
from ig_py.oci.registry import RegistryOptions
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull, push
from ig_py.oci.trust.privatekeys import load_private_key
from ig_py.oci.trust.sign import FORMATS, sign
from ig_py.resolver import resolve, verify

pytestmark = pytest.mark.needs("registry")
IMAGE = image("copied", metadata=b"name: copied\n")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def public(registry: str, tmp_path: Path) -> str:
    """The public key for the signatures of ``HOST/from/x:1``, in all formats."""
    private, public = trust.make_key(tmp_path)
    store, reference = Store.open(tmp_path / "from"), normalize(f"{registry}/from/x:1")
    store.add(IMAGE, str(reference))
    sign(reference, store, load_private_key(str(private), lambda: ""), FORMATS)
    push(reference, store, insecure(registry))
    return str(public)


def insecure(host: str) -> RegistryOptions:
    return RegistryOptions(insecure_registries=(host,))


def run(*argv: str, **environment: str) -> None:
    done = subprocess.run(
        argv, capture_output=True, timeout=300, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr.decode()


def offline(public: str, store: Store | None = None) -> ResolveOptions:
    return ResolveOptions(
        arch="amd64", store=store, pull="never", disallow_pulling=True, public_keys=[public]
    )


@pytest.mark.needs("oras")
def test_oras_to_a_registry(registry: str, public: str, tmp_path: Path) -> None:
    source, target = f"{registry}/from/x:1", f"{registry}/by/oras:1"
    run("oras", "cp", "--recursive", "--from-plain-http", "--to-plain-http", source, target)
    store = Store.open(tmp_path / "to")
    assert pull(normalize(target), store, insecure(registry)).digest == IMAGE.index.digest
    # Recursive means referrers; the tag of signatures was not asked for.
    assert verify(target, offline(public, store)).format in ("cosign referrer", "sigstore bundle")
    assert resolve(target, offline(public, store)).config == b"name: copied\n"


@pytest.mark.needs("oras")
def test_oras_to_a_layout(registry: str, public: str, tmp_path: Path) -> None:
    source = f"{registry}/from/x:1"
    run("oras", "cp", "--recursive", "--from-plain-http", "--to-oci-layout",
        source, f"{tmp_path}/layout:1")  # fmt: skip
    assert resolve(f"{tmp_path}/layout:1", offline(public)).digest == IMAGE.index.digest
    run("oras", "backup", "--plain-http", "--include-referrers", "-o", f"{tmp_path}/x.tar", source)
    assert resolve(f"{tmp_path}/x.tar", offline(public)).digest == IMAGE.index.digest


@pytest.mark.needs("oras")
def test_oras_reads_our_layouts(registry: str, public: str, tmp_path: Path) -> None:
    """Out of the store itself, with what refers to the image."""
    store = Store.open(tmp_path / "from")
    source, target = f"{registry}/from/x:1", f"{registry}/by/oras-again:1"
    run("oras", "cp", "--recursive", "--from-oci-layout", "--to-plain-http",
        f"{store.root}@{IMAGE.index.digest}", target)  # fmt: skip
    other = Store.open(tmp_path / "to")
    pull(normalize(target), other, insecure(registry))
    assert blob_files(other) <= blob_files(store)
    assert verify(target, offline(public, other))
    assert store.resolve(source).digest == IMAGE.index.digest


@pytest.mark.needs("root", "podman")
def test_podman(registry: str, public: str, tmp_path: Path) -> None:
    """Podman copies the manifests and makes an unsigned index of its own."""
    settings = tmp_path / "registries.conf"
    settings.write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    target = f"{registry}/by/podman:1"
    # podman takes no paths of more than 50 characters for its state.
    with tempfile.TemporaryDirectory(prefix="ig") as short, ExitStack() as stack:
        stack.callback(unmount_below, Path(short))
        podman = ["podman", "--root", f"{short}/root", "--runroot", f"{short}/run"]
        for argv in (
            ["manifest", "create", "--all", "copy", f"docker://{registry}/from/x:1"],
            ["manifest", "push", "--all", "--format", "oci", "copy", f"docker://{target}"],
        ):
            run(*podman, *argv, CONTAINERS_REGISTRIES_CONF=str(settings))
    store = Store.open(tmp_path / "to")
    root = pull(normalize(target), store, insecure(registry))
    assert root.digest != IMAGE.index.digest
    with pytest.raises(VerificationError, match="signature not found"):
        resolve(target, offline(public, store))
    found = resolve(
        target, ResolveOptions(arch="amd64", store=store, pull="never", verify_image=False)
    )
    assert found.config == b"name: copied\n"
    assert found.layers[0].data.startswith(b"\x7fELF-amd64-")


@pytest.mark.needs("skopeo")
def test_skopeo_to_an_archive(registry: str, public: str, tmp_path: Path) -> None:
    """What skopeo wrote is imported under its full name."""
    run("skopeo", "copy", "--all", "--src-tls-verify=false", f"docker://{registry}/from/x:1",
        f"oci-archive:{tmp_path}/x.tar:{registry}/from/x:1")  # fmt: skip
    store = Store.open(tmp_path / "to")
    assert import_images(tmp_path / "x.tar", store) == [f"{registry}/from/x:1"]
    assert store.resolve(f"{registry}/from/x:1").digest == IMAGE.index.digest
