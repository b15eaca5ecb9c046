"""The wasm module of a gadget: taken as it is, or built from Go or Rust.

Facts: docs/building.md#the-build-file.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ig_py.errors import BuildError
from ig_py.toolchain.process import run
from ig_py.toolchain.sources import read_source

OUTPUT = "program.wasm"
MAX_MANIFEST = 1 << 20
TIMEOUT_S = 1800
"""A first build may fetch and compile every dependency."""

GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOOS": "wasip1", "GOARCH": "wasm"}
RUST_TARGET = "wasm32-wasip1"


def go_argv(directory: str, output: str, file: str) -> list[str]:
    """Arguments that build *file* of *directory* into *output*."""
    return [
        "go",
        "build",
        "-C",
        directory,
        "-o",
        output,
        "-buildmode=c-shared",
        "-ldflags",
        "-w -s",
        file,
    ]


def cargo_argv(manifest: str) -> list[str]:
    """Arguments that build the package of *manifest*; CARGO_TARGET_DIR says where to."""
    return ["cargo", "build", "--target", RUST_TARGET, "--release", "--manifest-path", manifest]


def cargo_manifest(source: str) -> str:
    """The Cargo.toml of ``src/program.rs``, one directory up; relative, as *source* is."""
    return str(PurePosixPath(source).parent.parent / "Cargo.toml")


def cargo_package(root: Path, manifest: str) -> str:
    """Name of the file that cargo makes for the package.

    Raises:
        BuildError: The manifest cannot be read, or does not name the package.
    """
    raw = read_source(root, manifest, "Cargo manifest", MAX_MANIFEST)
    if raw is None:
        raise BuildError(f"building a module of Rust: {manifest} not found")
    try:
        document = tomllib.loads(raw.decode())
        name = document["package"]["name"]
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as e:
        raise BuildError(f"reading {manifest}: no package name: {e}") from None
    if not isinstance(name, str) or not name or "/" in name:
        raise BuildError(f"reading {manifest}: no package name")
    return name


def build_wasm(root: Path, source: str, scratch: Path, debug: Callable[[str], None]) -> Path:
    """The module's file; *source* is relative to *root*, the gadget's directory.

    Raises:
        BuildError: It does not compile, or the language's toolchain is not installed.
    """
    path = root / source
    if path.suffix == ".wasm":
        return path
    output = scratch / OUTPUT
    tool = "go" if path.suffix == ".go" else "cargo"
    if shutil.which(tool) is None:
        raise BuildError(
            f"building {source}: {tool} is not installed",
            remedy=f"install {tool}, use --builder-image, or name a built .wasm file",
        )
    if tool == "go":
        argv = go_argv(str(path.parent), str(output), path.name)
        debug(" ".join(argv))
        run(argv, f"building {source}", cwd=root, env=GO_ENVIRONMENT, timeout_s=TIMEOUT_S)
        return output
    manifest = cargo_manifest(source)
    package = cargo_package(root, manifest)
    argv = cargo_argv(str(root / manifest))
    debug(" ".join(argv))
    target = scratch / "cargo"
    run(
        argv,
        f"building {source}",
        cwd=root,
        env={"CARGO_TARGET_DIR": str(target)},
        timeout_s=TIMEOUT_S,
    )
    try:
        (target / RUST_TARGET / "release" / f"{package}.wasm").rename(output)
    except OSError as e:
        raise BuildError(f"building {source}: cargo left no module: {e.strerror or e}") from None
    return output
