"""The wasm module of a gadget: taken as it is, or built from Go or Rust.

Facts: docs/building.md#the-build-file.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

from ig_py.errors import BuildError
from ig_py.toolchain.process import run

OUTPUT = "program.wasm"
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


def cargo_manifest(root: Path, source: str) -> Path:
    """The Cargo.toml of ``src/program.rs``, one directory up.

    Raises:
        BuildError: There is none.
    """
    manifest = (root / source).parent.parent / "Cargo.toml"
    if not manifest.is_file():
        raise BuildError(f"building {source}: {manifest} not found")
    return manifest


def cargo_package(manifest: Path) -> str:
    """Name of the file that cargo makes for the package.

    Raises:
        BuildError: The manifest cannot be read, or does not name the package.
    """
    try:
        document = tomllib.loads(manifest.read_text())
        name = document["package"]["name"]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as e:
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
    manifest = cargo_manifest(root, source)
    argv = cargo_argv(str(manifest))
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
        shutil.copyfile(
            target / RUST_TARGET / "release" / f"{cargo_package(manifest)}.wasm", output
        )
    except OSError as e:
        raise BuildError(f"building {source}: cargo left no module: {e.strerror or e}") from None
    return output
