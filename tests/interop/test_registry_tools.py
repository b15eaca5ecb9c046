"""Debian's docker-registry and skopeo: what one writes the other reads, digest unchanged."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.images import blob_files, hexes, image, name
from support.registry import docker_registry

from ig_py.oci import media
from ig_py.oci.archive import export_images, import_images
from ig_py.oci.options import ResolveOptions
from ig_py.oci.reference import Reference, normalize
from ig_py.oci.registry import RegistryOptions
from ig_py.oci.store import Store
from ig_py.oci.transfer import pull, push
from ig_py.resolver import resolve

METADATA = b'name: "interop <& \\u2028>"\ndescription: checks\n'
IMAGE = image("interop", metadata=METADATA, size=200_000)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def insecure(host: str) -> RegistryOptions:
    return RegistryOptions(insecure_registries=(host,))


def get(url: str) -> tuple[Any, bytes]:
    request = urllib.request.Request(url, headers={"Accept": media.INDEX})
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.headers, response.read()


def skopeo(*args: str) -> bytes:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *args], capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def same(store: Store, reference: Reference | str) -> None:
    assert store.resolve(str(reference)).digest == IMAGE.index.digest
    assert blob_files(store) == hexes(IMAGE)


@pytest.mark.needs("registry")
def test_push_and_pull(registry: str, store: Store) -> None:
    reference = normalize(f"{registry}/ig/te:1")
    store.add(IMAGE, str(reference))
    push(reference, store, insecure(registry))
    headers, raw = get(f"http://{registry}/v2/ig/te/manifests/1")
    assert raw == IMAGE.blobs[IMAGE.index.digest]
    assert headers["Content-Type"] == media.INDEX
    assert headers["Docker-Content-Digest"] == IMAGE.index.digest
    assert json.loads(get(f"http://{registry}/v2/ig/te/tags/list")[1])["tags"] == ["1"]
    store.remove(str(reference))
    assert blob_files(store) == set()
    pull(reference, store, insecure(registry))
    same(store, reference)
    artifact = resolve(
        str(reference), ResolveOptions(arch="arm64", verify_image=False, store=store)
    )
    assert artifact.config == METADATA


@pytest.mark.needs("registry")
def test_pull_by_digest(registry: str, store: Store) -> None:
    reference = normalize(f"{registry}/by/digest:1")
    store.add(IMAGE, str(reference))
    push(reference, store, insecure(registry))
    store.remove(str(reference))
    pinned = replace(reference, tag="", digest=IMAGE.index.digest)
    pull(pinned, store, insecure(registry))
    same(store, pinned)


@pytest.mark.needs("registry", "skopeo")
def test_skopeo_reads_pushed_images(registry: str, store: Store, tmp_path: Path) -> None:
    reference = normalize(f"{registry}/sk/ours:1")
    store.add(IMAGE, str(reference))
    push(reference, store, insecure(registry))
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}")
    assert raw == IMAGE.blobs[IMAGE.index.digest]
    layout = tmp_path / "layout"
    skopeo("copy", "--all", "--preserve-digests", "--src-tls-verify=false",
           f"docker://{reference}", f"oci:{layout}:copied")  # fmt: skip
    artifact = resolve(f"{layout}:copied", ResolveOptions(arch="amd64", verify_image=False))
    assert artifact.digest == IMAGE.index.digest
    assert artifact.layers[0].data.startswith(b"\x7fELF-amd64-")


@pytest.mark.needs("registry", "skopeo")
def test_images_pushed_by_skopeo_are_read(registry: str, store: Store, tmp_path: Path) -> None:
    source = Store.open(tmp_path / "source")
    source.add(IMAGE, name("sk:1"))
    reference = normalize(f"{registry}/sk/theirs:1")
    skopeo("copy", "--all", "--preserve-digests", "--dest-tls-verify=false",
           f"oci:{source.root}:{name('sk:1')}", f"docker://{reference}")  # fmt: skip
    pull(reference, store, insecure(registry))
    same(store, reference)


@pytest.mark.needs("skopeo")
def test_skopeo_reads_the_store(store: Store) -> None:
    store.add(IMAGE, name("sk:1"))
    raw = skopeo("inspect", "--raw", f"oci:{store.root}:{name('sk:1')}")
    assert raw == IMAGE.blobs[IMAGE.index.digest]


@pytest.mark.needs("skopeo")
def test_archives_both_ways(store: Store, tmp_path: Path) -> None:
    store.add(IMAGE, name("sk:1"))
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    export_images([normalize("sk:1")], store, ours)
    skopeo("copy", "--all", "--preserve-digests",
           f"oci-archive:{ours}:{name('sk:1')}", f"oci-archive:{theirs}:again:2")  # fmt: skip
    other = Store.open(tmp_path / "other")
    assert import_images(theirs, other) == [name("again:2")]
    same(other, name("again:2"))
    artifact = resolve(str(theirs), ResolveOptions(arch="amd64", verify_image=False))
    assert artifact.digest == IMAGE.index.digest
