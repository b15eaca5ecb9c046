"""Resolving: references, paths, policies."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.images import image, name, reindexed, write_layout
from support.registry_cases import make_quick
from support.registry_server import FaultyRegistry, serving

from ig_py.errors import (
    IgPyError,
    ImageNotFound,
    IntegrityError,
    InvalidReference,
    LimitError,
    RegistryDenied,
    RegistryError,
    StoreError,
    UsageError,
    VerificationError,
)
from ig_py.oci import media, transfer
from ig_py.oci.archive import export_images
from ig_py.oci.artifact import Artifact
from ig_py.oci.options import ResolveOptions
from ig_py.oci.pack import PackedImage
from ig_py.oci.paths import is_path
from ig_py.oci.reference import normalize
from ig_py.oci.store import Store
from ig_py.resolver import resolve


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "store")
    store.add(image("a"), name("x:1"))
    return store


@pytest.fixture
def options(store: Store) -> ResolveOptions:
    return ResolveOptions(arch="amd64", verify_image=False, store=store)


@pytest.mark.parametrize(
    "text",
    [".", "..", "./x", "../x", "/x", "~", "~/x", "./", "/", "oci:x", "oci-archive:/x", "./x:1"],
)
def test_paths(text: str) -> None:
    assert is_path(text)


@pytest.mark.parametrize(
    "text", ["x", "x.tar", "a/b", ".x", "..x", "~x", "x:1", "ghcr.io/a/b", "localhost:5000/x", ""]
)
def test_references(text: str) -> None:
    assert not is_path(text)


def check(artifact: Artifact, packed: PackedImage) -> None:
    assert artifact.digest == packed.index.digest
    assert [x.descriptor.media_type for x in artifact.layers] == [
        media.EBPF_LAYER, media.WASM_LAYER,
    ]  # fmt: skip
    assert artifact.layers[0].data.startswith(b"\x7fELF-amd64-")
    assert artifact.config == b"{}"
    assert artifact.manifest_raw in packed.blobs.values()
    assert artifact.manifest["artifactType"] == media.GADGET
    assert artifact.annotations == {media.CREATED: "2026-11-23T05:27:26Z"}


def test_from_the_store(options: ResolveOptions) -> None:
    artifact = resolve("x:1", options)
    check(artifact, image("a"))
    assert (artifact.reference, artifact.normalized) == ("x:1", name("x:1"))
    assert artifact.origin == "store"
    arm = resolve("x:1", replace(options, arch="arm64"))
    assert arm.layers[0].data.startswith(b"\x7fELF-arm64-")
    assert arm.digest == artifact.digest


def test_layout_directories(tmp_path: Path, options: ResolveOptions) -> None:
    write_layout(tmp_path / "image", image("b"), [])
    for text in (f"{tmp_path}/image", f"oci:{tmp_path}/image", f"{tmp_path}/./image/"):
        artifact = resolve(text, options)
        check(artifact, image("b"))
        assert artifact.origin == "layout"
        assert artifact.reference == text


def test_relative_paths(
    tmp_path: Path, options: ResolveOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_layout(tmp_path / "image", image("b"), [])
    monkeypatch.chdir(tmp_path / "image")
    for text in (".", "./", "../image", "oci:.", "oci:../image"):
        check(resolve(text, options), image("b"))
    monkeypatch.setenv("HOME", str(tmp_path))
    check(resolve("~/image", options), image("b"))
    monkeypatch.chdir(tmp_path)
    check(resolve("oci:image", options), image("b"))


def test_archives(tmp_path: Path, store: Store, options: ResolveOptions) -> None:
    export_images([normalize("x:1")], store, tmp_path / "x.tar")
    for text in (f"{tmp_path}/x.tar", f"oci-archive:{tmp_path}/x.tar", f"{tmp_path}/x.tar:1"):
        artifact = resolve(text, options)
        check(artifact, image("a"))
        assert artifact.origin == "archive"
    assert artifact.normalized == f"{tmp_path}/x.tar:{name('x:1')}"


def test_choosing_one_of_several(tmp_path: Path, store: Store, options: ResolveOptions) -> None:
    store.add(image("b"), "localhost:5000/y:2")
    with pytest.raises(ImageNotFound, match="several images") as caught:
        resolve(str(store.root), options)
    assert name("x:1") in str(caught.value) and "localhost:5000/y:2" in str(caught.value)
    for tag in ("x:1", name("x:1"), "1"):
        check(resolve(f"{store.root}:{tag}", options), image("a"))
    for tag in ("y:2", "2", "localhost:5000/y:2"):
        check(resolve(f"{store.root}:{tag}", options), image("b"))
    with pytest.raises(ImageNotFound, match='no image "3"'):
        resolve(f"{store.root}:3", options)


def test_two_names_of_one_image_are_no_choice(store: Store, options: ResolveOptions) -> None:
    store.tag(name("x:1"), name("x:2"))
    check(resolve(str(store.root), options), image("a"))


def test_paths_with_colons(tmp_path: Path, options: ResolveOptions) -> None:
    write_layout(tmp_path / "a:b", image("b"), ["t:1"])
    check(resolve(f"{tmp_path}/a:b", options), image("b"))
    check(resolve(f"{tmp_path}/a:b:t:1", options), image("b"))


def test_source_directories(
    tmp_path: Path, options: ResolveOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ig_py.toolchain import build

    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "gadget.yaml").write_text("name: x\n")
    seen: list[Any] = []

    def build_gadget(wanted: Any) -> PackedImage:
        seen.append((wanted.path, wanted.validate_metadata))
        return image("c")

    monkeypatch.setattr(build, "build_gadget", build_gadget)
    said: list[str] = []
    artifact = resolve(
        f"{tmp_path}/src", replace(options, verify_image=True, on_message=said.append)
    )
    check(artifact, image("c"))
    assert artifact.origin == "source"
    assert seen == [(tmp_path / "src", True)]
    assert said == []
    resolve(f"{tmp_path}/src", replace(options, validate_metadata=False))
    assert seen[1:] == [(tmp_path / "src", False)]


def test_directories_that_are_nothing(tmp_path: Path, options: ResolveOptions) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="neither"):
        resolve(f"{tmp_path}/empty", options)
    with pytest.raises(StoreError, match="no such file"):
        resolve(f"{tmp_path}/nothing", options)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(IntegrityError, match="tar"):
        resolve(f"{tmp_path}/text", options)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StoreError, match="regular"):
        resolve(f"{tmp_path}/fifo", options)
    with pytest.raises(InvalidReference):
        resolve("oci:", options)


# Verification


def test_unverified_images_do_not_run(tmp_path: Path, options: ResolveOptions) -> None:
    write_layout(tmp_path / "image", image("b"), [])
    strict = replace(options, verify_image=True, pull="never")
    for text in ("x:1", f"{tmp_path}/image"):
        with pytest.raises(VerificationError, match="--verify-image=false"):
            resolve(text, strict)


def test_verification_switched_off_is_said_once(options: ResolveOptions) -> None:
    said: list[str] = []
    resolve("x:1", replace(options, on_message=said.append))
    assert said == ["image signature verification is off"]


def test_default_options_are_strict() -> None:
    assert ResolveOptions().verify_image is True
    assert ResolveOptions().pull == "missing"


@pytest.mark.parametrize(
    "allowed",
    [
        [name("x:1")],
        ["foo", "ghcr.io/inspektor-gadget/gadget/*"],
        ["*"],
        [f"ghcr.io/inspektor-gadget/gadget/x@{image('a').index.digest}"],
        ["", name("x:1")],
        [],
        [""],
    ],
)
def test_allowed(options: ResolveOptions, allowed: list[str]) -> None:
    check(resolve("x:1", replace(options, allowed_gadgets=allowed)), image("a"))


@pytest.mark.parametrize(
    "allowed",
    [
        ["x:1"],
        ["x"],
        ["foo", "bar"],
        ["", "foo"],
        [name("x")],
        [f"ghcr.io/inspektor-gadget/gadget/x@{image('b').index.digest}"],
        [f"x@{image('a').index.digest}"],
        ["ghcr.io/other/*"],
    ],
)
def test_not_allowed(options: ResolveOptions, allowed: list[str]) -> None:
    listed = ", ".join(filter(None, allowed))
    with pytest.raises(VerificationError) as caught:
        resolve("x:1", replace(options, allowed_gadgets=allowed))
    assert str(caught.value) == f"x:1 is not part of allowed gadgets: {listed}"


def test_paths_are_never_on_the_list(tmp_path: Path, options: ResolveOptions) -> None:
    write_layout(tmp_path / "image", image("b"), [name("x:1")])
    with pytest.raises(VerificationError, match="not part of allowed"):
        resolve(f"{tmp_path}/image", replace(options, allowed_gadgets=["*"]))


# Pulling


class Pulled:
    """Stands for the registry; counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: IgPyError | None = None) -> None:
        self.asked: list[str] = []
        self.registry: Any = None
        self.error = error
        monkeypatch.setattr(transfer, "pull", self.pull)

    def pull(self, reference: Any, store: Store, registry: Any, **_options: Any) -> Any:
        self.asked.append(str(reference))
        self.registry = registry
        if self.error:
            raise self.error
        store.add(image("p"), str(reference))
        return image("p").index


def test_pull_policies(options: ResolveOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled = Pulled(monkeypatch)
    resolve("x:1", options)
    assert pulled.asked == []
    check(resolve("new:1", options), image("p"))
    assert pulled.asked == [name("new:1")]
    resolve("new:1", options)
    assert len(pulled.asked) == 1
    check(resolve("x:1", replace(options, pull="always")), image("p"))
    assert pulled.asked[1:] == [name("x:1")]
    with pytest.raises(ImageNotFound) as caught:
        resolve("other:1", replace(options, pull="never"))
    assert f'resolving image "{name("other:1")}" on local registry: not found' in str(caught.value)
    with pytest.raises(UsageError, match="always, missing, never"):
        resolve("x:1", replace(options, pull="sometimes"))


def test_registry_settings_reach_the_registry(
    options: ResolveOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled = Pulled(monkeypatch)
    resolve("new:1", replace(options, insecure_registries=["a:1"], authfile="/f"))
    assert pulled.registry.insecure_registries == ("a:1",)
    assert pulled.registry.authfile == "/f"


def test_pulling_disallowed(options: ResolveOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled = Pulled(monkeypatch)
    closed = replace(options, disallow_pulling=True)
    check(resolve("x:1", closed), image("a"))
    with pytest.raises(RegistryDenied, match='pulling image "new:1": pulling is disallowed'):
        resolve("new:1", closed)
    with pytest.raises(RegistryDenied, match="disallowed"):
        resolve("x:1", replace(closed, pull="always"))
    assert pulled.asked == []


def test_images_that_policy_cannot_allow_are_not_pulled(
    options: ResolveOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled = Pulled(monkeypatch)
    with pytest.raises(VerificationError):
        resolve("new:1", replace(options, allowed_gadgets=["other"]))
    assert pulled.asked == []


def test_failing_pulls_name_the_image_and_a_file_of_that_name(
    tmp_path: Path, options: ResolveOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pulled(monkeypatch, RegistryError("GET https://…: connection refused"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegistryError) as caught:
        resolve("image.tar", options)
    assert str(caught.value) == (
        'pulling image (if missing) "image.tar": GET https://…: connection refused'
    )
    (tmp_path / "image.tar").write_text("")
    with pytest.raises(RegistryError, match=r'write "\./image\.tar"'):
        resolve("image.tar", options)


# Broken images


def test_no_manifest_for_this_machine(options: ResolveOptions) -> None:
    with pytest.raises(IntegrityError) as caught:
        resolve("x:1", replace(options, arch="riscv64"))
    assert 'no manifest found for architecture "riscv64"' in str(caught.value)
    assert "amd64, arm64" in str(caught.value)


def broken(tmp_path: Path, change: Any) -> str:
    write_layout(tmp_path / "broken", reindexed(image("a"), change), [])
    return str(tmp_path / "broken")


def without_platform(doc: Any) -> Any:
    for manifest in doc["manifests"]:
        del manifest["platform"]
    return doc


def test_index_without_platforms(tmp_path: Path, options: ResolveOptions) -> None:
    with pytest.raises(IntegrityError, match="one without platform"):
        resolve(broken(tmp_path, without_platform), options)


def test_one_entry_without_platform_does_not_hide_the_others(
    tmp_path: Path, options: ResolveOptions
) -> None:
    def change(doc: Any) -> Any:
        doc["manifests"].insert(0, {**doc["manifests"][1], "platform": None})
        return doc

    assert resolve(broken(tmp_path, change), options).layers


def test_the_os_is_not_looked_at(tmp_path: Path, options: ResolveOptions) -> None:
    def change(doc: Any) -> Any:
        doc["manifests"][0]["platform"]["os"] = "plan9"
        return doc

    assert resolve(broken(tmp_path, change), options).layers


def test_empty_index(tmp_path: Path, options: ResolveOptions) -> None:
    with pytest.raises(IntegrityError, match="none at all"):
        resolve(broken(tmp_path, lambda doc: {**doc, "manifests": []}), options)


@pytest.mark.parametrize("size", [1 << 40, (1 << 63) - 1])
def test_absurd_manifest_sizes(tmp_path: Path, options: ResolveOptions, size: int) -> None:
    def change(doc: Any) -> Any:
        doc["manifests"][0]["size"] = size
        return doc

    with pytest.raises(LimitError, match="declared size"):
        resolve(broken(tmp_path, change), options)


def test_absurd_layer_sizes_are_refused_before_reading(
    tmp_path: Path, options: ResolveOptions
) -> None:
    import json

    from ig_py.oci import digest, gojson

    packed = image("a")
    index = json.loads(packed.blobs[packed.index.digest])
    manifest = json.loads(packed.blobs[index["manifests"][0]["digest"]])
    manifest["layers"][0]["size"] = 1 << 50
    raw = gojson.dumps(manifest)
    packed.blobs[digest.of(raw)] = raw

    def change(doc: Any) -> Any:
        doc["manifests"][0].update(digest=digest.of(raw), size=len(raw))
        return doc

    write_layout(tmp_path / "broken", reindexed(packed, change), [])
    with pytest.raises(LimitError, match="exceed"):
        resolve(str(tmp_path / "broken"), options)


def test_a_manifest_that_is_an_index(tmp_path: Path, options: ResolveOptions) -> None:
    def change(doc: Any) -> Any:
        doc["manifests"][0]["mediaType"] = media.INDEX
        return doc

    with pytest.raises(IntegrityError):
        resolve(broken(tmp_path, change), options)


def test_single_manifests_are_no_images(store: Store, options: ResolveOptions) -> None:
    from ig_py.oci import walk

    manifest = walk.walk(store, image("a").index).manifests[0]
    store.tag(manifest.digest, name("single:1"))
    with pytest.raises(IntegrityError, match="not an image index"):
        resolve("single:1", options)


@pytest.mark.parametrize("kind", ["truncate", "tamper", "remove"])
def test_damaged_blobs(store: Store, options: ResolveOptions, kind: str) -> None:
    for path in (store.root / "blobs" / "sha256").iterdir():
        content = path.read_bytes()
        if content.startswith(b"\x7fELF-amd64"):
            path.unlink()
            if kind == "truncate":
                path.write_bytes(content[:-1])
            elif kind == "tamper":
                path.write_bytes(content[:-1] + b"?")
            hexa = path.name
    with pytest.raises((IntegrityError, StoreError)) as caught:
        resolve("x:1", replace(options, pull="never"))
    assert hexa in str(caught.value)
    assert "eBPF layer" in str(caught.value)
    assert caught.value.remedy.endswith(f"image pull {name('x')}@{image('a').index.digest}")


def test_damage_is_healed_by_the_registry(
    tmp_path: Path, store: Store, options: ResolveOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same image, even when the tag means another one by now."""
    make_quick(monkeypatch)
    said: list[str] = []
    with serving(FaultyRegistry()) as registry:
        registry.put("te", "1", image("a"))
        registry.put("te", "1", image("b"))
        reference = f"{registry.host}/te:1"
        store.add(image("a"), reference)
        given = replace(options, insecure_registries=[registry.host], on_message=said.append)
        blobs = image("a").blobs
        path = store.blob_path(next(d for d in blobs if blobs[d].startswith(b"\x7fELF-amd64")))
        path.chmod(0o644)
        path.write_bytes(b"?")
        check(resolve(reference, given), image("a"))
        assert any("asking the registry" in text for text in said)
        said.clear()
        check(resolve(reference, given), image("a"))
        assert not any("asking" in text for text in said)
        # No request is made where pulling is not allowed or the registry lacks the image, too.
        registry.manifests.clear()
        path.unlink()
        with pytest.raises(StoreError, match="missing"):
            resolve(reference, given)
        registry.requests.clear()
        with pytest.raises(StoreError, match="missing"):
            resolve(reference, replace(given, disallow_pulling=True))
        assert registry.requests == []
