"""Gadget directories whose author wants to read files of the machine that builds them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ig_py.errors import BuildError
from ig_py.oci.pack import PackedImage
from ig_py.toolchain import container
from ig_py.toolchain.build import build_gadget
from ig_py.toolchain.buildfile import read_build_file
from ig_py.toolchain.options import BuildOptions
from ig_py.toolchain.sources import read_made

SECRET = b"description: secret\n"
WASM = b"\0asm\1\0\0\0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "gadget"
    place.mkdir()
    (tmp_path / "secret").write_bytes(SECRET)
    (place / "gadget.yaml").write_text("name: x\n")
    return place


def build(root: Path) -> PackedImage:
    return build_gadget(BuildOptions(root, validate_metadata=False))


def refused(root: Path) -> str:
    before = sorted(root.rglob("*"))
    start = time.monotonic()
    with pytest.raises(BuildError) as caught:
        build(root)
    assert time.monotonic() - start < 8
    assert sorted(root.rglob("*")) == before
    return str(caught.value)


def fifo(place: Path) -> None:
    os.mkfifo(place)


def link(target: str) -> Callable[[Path], None]:
    return lambda place: place.symlink_to(target)


HOSTILE = [
    pytest.param(fifo, "it is a FIFO", id="fifo"),
    pytest.param(Path.mkdir, "it is a directory", id="directory"),
    pytest.param(link("/dev/zero"), "leaves the directory", id="device"),
    pytest.param(link("../../secret"), "leaves the directory", id="relative"),
    pytest.param(link("/etc/passwd"), "leaves the directory", id="absolute"),
    pytest.param(link("/proc/self/environ"), "leaves the directory", id="proc"),
]
FILES = {
    "build.yaml": "",
    "gadget.yaml": "",
    "program.bpf.c": "",
    "m.wasm": "wasm: m.wasm\n",
    "src/p.rs": "wasm: src/p.rs\n",
    "p.go": "wasm: p.go\n",
    "other.yaml": "metadata: other.yaml\n",
    "other.c": "ebpfsource: other.c\n",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("make", "reason"), HOSTILE)
def test_files_that_lead_out_or_are_no_files(
    root: Path, name: str, make: Callable[[Path], None], reason: str
) -> None:
    (root / name).unlink(missing_ok=True)
    (root / name).parent.mkdir(exist_ok=True)
    make(root / name)
    if FILES[name]:
        (root / "build.yaml").write_text(FILES[name])
    said = refused(root)
    assert reason in said
    assert name in said


@pytest.mark.parametrize("key", ["metadata", "wasm", "ebpfsource"])
@pytest.mark.parametrize("path", ["../secret.wasm", "a/../../secret.wasm", "/etc/passwd.wasm"])
def test_names_that_lead_out(root: Path, key: str, path: str) -> None:
    (root / "a").mkdir()
    (root.parent / "secret.wasm").write_bytes(WASM)
    (root / "build.yaml").write_text(f"{key}: {path}\n")
    assert "leaves the directory" in refused(root)


def test_a_directory_that_leads_out(root: Path) -> None:
    (root / "sub").symlink_to("..")
    (root / "build.yaml").write_text("metadata: sub/secret\n")
    assert "leaves the directory" in refused(root)


def test_links_within_the_directory_count(root: Path) -> None:
    (root / "shared").mkdir()
    (root / "shared/m.wasm").write_bytes(WASM)
    (root / "shared/g.yaml").write_bytes(SECRET)
    (root / "m.wasm").symlink_to("shared/m.wasm")
    (root / "gadget.yaml").unlink()
    (root / "gadget.yaml").symlink_to("shared/g.yaml")
    (root / "build.yaml").write_text("wasm: m.wasm\n")
    blobs = build(root).blobs.values()
    assert WASM in blobs
    assert SECRET in blobs


def test_the_directory_itself_may_be_a_link(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    assert b"name: x\n" in build(root.parent / "link").blobs.values()


def test_a_build_file_that_is_named_may_be_anywhere(root: Path) -> None:
    (root.parent / "b.yaml").write_text("metadata: gadget.yaml\n")
    (root / "f").symlink_to("../b.yaml")
    file = read_build_file(root, str(root / "f"), lambda _: None)
    assert file.metadata == "gadget.yaml"
    with pytest.raises(BuildError, match="it is larger than"):
        read_build_file(root, "/dev/zero", lambda _: None)


def test_a_manifest_of_cargo(root: Path) -> None:
    """It says which file of the build becomes the module."""
    (root / "src").mkdir()
    (root / "src/p.rs").touch()
    (root / "Cargo.toml").symlink_to("../secret")
    (root / "build.yaml").write_text("wasm: src/p.rs\n")
    with pytest.raises(BuildError, match=r"Cargo manifest Cargo\.toml: its path leaves"):
        container._wasm_steps(root, "src/p.rs", root.parent)


def test_what_a_builder_image_leaves(tmp_path: Path) -> None:
    """It can write links into the directory of the build's results."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "secret").write_bytes(SECRET)
    (scratch / "amd64.bpf.o").symlink_to("../secret")
    os.mkfifo(scratch / "arm64.bpf.o")
    (scratch / "good").write_bytes(b"12345")
    for name, reason in {
        "amd64.bpf.o": "symbolic link",
        "arm64.bpf.o": "a FIFO",
        "good": "larger than 4 bytes",
        "none": "did not make it",
    }.items():
        with pytest.raises(BuildError, match=reason):
            read_made(scratch, scratch / name, 4)


def test_updated_metadata_is_written_nowhere_else(root: Path) -> None:
    from ig_py.toolchain.build import _replace
    from ig_py.toolchain.sources import source_place

    (root / "sub").symlink_to("..")
    for name in ("sub/secret", "../secret", "/etc/secret", "a/.."):
        with pytest.raises(BuildError), source_place(root, name, "metadata"):
            pytest.fail("there is a place")
    (root / "link").symlink_to("../secret")
    with source_place(root, "link", "metadata") as place:
        _replace(place, b"new", "link")
    assert (root.parent / "secret").read_bytes() == SECRET
    assert not (root / "link").is_symlink()
    assert (root / "link").read_bytes() == b"new"
