"""The wasm module of a gadget: taken as it is, or built from Go, Rust or C.

Every language is built without anything of this machine in the result: two builds of the same
sources with the same compiler give the same bytes. Facts: docs/building.md#wasm-modules.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from ig_py.errors import BuildError
from ig_py.toolchain import headers
from ig_py.toolchain.clang import Clang, require_clang
from ig_py.toolchain.process import run
from ig_py.toolchain.sources import read_source

OUTPUT = "program.wasm"
SUFFIXES = (".go", ".rs", ".c", ".wasm")
MAX_MANIFEST = 1 << 20
TIMEOUT_S = 1800
"""A first build may fetch and compile every dependency."""

MIN_GO = (1, 24)
"""The first release with ``go:wasmexport`` and ``-buildmode=c-shared`` for wasip1."""
GO_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOOS": "wasip1",
    "GOARCH": "wasm",
    # A value that is not empty replaces the one of `go env -w`.
    "GOFLAGS": "-trimpath",
}
RUST_TARGET = "wasm32-wasip1"
C_CODE = (
    "--target=wasm32",
    # What every engine runs. Later releases of clang choose more by themselves.
    "-mcpu=mvp",
    "-mbulk-memory",
    "-msign-ext",
    "-Wall",
    "-O2",
    "-ffreestanding",
    "-nostdlib",
    "-Wl,--no-entry",
    "-Wl,--strip-all",
    # A stack that overflows ends at address 0, not in the module's data.
    "-Wl,--stack-first",
    "-Wl,-z,stack-size=65536",
)
_MODULE = b"\0asm\1\0\0\0"
_COMPONENT = b"\0asm\x0d\0\1\0"
_GO_VERSION = re.compile(r"\bgo(\d+)\.(\d+)")
_OTHERWISE = "use --builder-image, or name a built .wasm file"


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
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        "-w -s -buildid=",
        file,
    ]


def tinygo_argv(tinygo: str, output: str, file: str) -> list[str]:
    """Arguments that build *file* of the working directory into *output*."""
    kind = ["-target=wasip1", "-buildmode=c-shared", "-no-debug"]
    return [tinygo, "build", *kind, "-o", output, file]


def cargo_argv(manifest: str, moved: Mapping[str, str]) -> list[str]:
    """Arguments that build the package of *manifest*; CARGO_TARGET_DIR says where to.

    *moved*: directory → its name in the module, whose panic messages tell files.
    """
    flags = json.dumps([f"--remap-path-prefix={old}={new}" for old, new in moved.items()])
    return [
        "cargo",
        "build",
        "--target",
        RUST_TARGET,
        "--release",
        "--manifest-path",
        manifest,
        # Joined with the flags of the package's own configuration.
        "--config",
        f"build.rustflags={flags}",
    ]


def c_argv(clang: str, source: str, output: str, include: str, root: str) -> list[str]:
    """Arguments that build *source*, relative to *root*, into *output*.

    *include*: the directory of ``gadget/wasm.h``.
    """
    return [
        clang,
        *C_CODE,
        "-fno-crash-diagnostics",
        f"-ffile-prefix-map={root}=.",
        f"-ffile-prefix-map={include}=/usr/include",
        "-I",
        include,
        "-o",
        output,
        source,
    ]


def cargo_manifest(source: str) -> str:
    """The Cargo.toml of ``src/program.rs``, one directory up; relative, as *source* is."""
    return str(PurePosixPath(source).parent.parent / "Cargo.toml")


def cargo_product(root: Path, manifest: str) -> str:
    """Name of the file, without its suffix, that cargo makes for the package.

    Raises:
        BuildError: The manifest cannot be read, or does not name the package.
    """
    raw = read_source(root, manifest, "Cargo manifest", MAX_MANIFEST)
    if raw is None:
        raise BuildError(f"building a module of Rust: {manifest} not found")
    try:
        document = tomllib.loads(raw.decode())
        package = document["package"]["name"]
        library = document.get("lib")
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as e:
        raise BuildError(f"reading {manifest}: no package name: {e}") from None
    name = package
    if isinstance(library, dict) and isinstance(package, str):
        # A library's name is an identifier.
        name = library.get("name", package.replace("-", "_"))
    if not isinstance(name, str) or not name or "/" in name:
        raise BuildError(f"reading {manifest}: no package name")
    return name


def check_module(raw: bytes, source: str) -> None:
    """Refuse what no engine for gadgets loads.

    Raises:
        BuildError: *raw* is no module of WebAssembly 1, which is all that gadgets can be.
    """
    if raw.startswith(_MODULE):
        return
    if raw.startswith(_COMPONENT):
        raise BuildError(
            f"building {source}: it is a wasm component, not a module",
            remedy=f"build for {RUST_TARGET} or GOOS=wasip1",
        )
    raise BuildError(f"building {source}: it is not a wasm module")


def build_wasm(root: Path, source: str, scratch: Path, debug: Callable[[str], None]) -> Path:
    """The module's file; *source* is relative to *root*, the gadget's directory.

    Raises:
        BuildError: It does not compile, or the language's toolchain is not installed.
    """
    suffix = PurePosixPath(source).suffix
    if suffix == ".wasm":
        return root / source
    output = scratch / OUTPUT
    if suffix == ".go":
        _build_go(root, source, output, debug)
    elif suffix == ".c":
        _build_c(root, source, output, debug)
    else:
        _build_rust(root, source, scratch / "cargo", output, debug)
    return output


def _build_go(root: Path, source: str, output: Path, debug: Callable[[str], None]) -> None:
    path = root / source
    tinygo = _chosen_tinygo(path.parent, source)
    if tinygo is not None:
        argv = tinygo_argv(tinygo, str(output), path.name)
        debug(" ".join(argv))
        run(argv, f"building {source}", cwd=path.parent, timeout_s=TIMEOUT_S)
        return
    argv = go_argv(str(path.parent), str(output), path.name)
    debug(" ".join(argv))
    run(argv, f"building {source}", cwd=root, env=GO_ENVIRONMENT, timeout_s=TIMEOUT_S)


def _chosen_tinygo(directory: Path, source: str) -> str | None:
    """``$TINYGO``, or ``tinygo`` where there is no Go that is new enough; None: Go itself.

    Raises:
        BuildError: Neither is there.
    """
    override = os.environ.get("TINYGO")
    if override:
        found = shutil.which(override)
        if found is None:
            raise BuildError(f"building {source}: TINYGO={override} does not exist")
        return found
    wanted = "Go {}.{}".format(*MIN_GO)
    remedy = f"install {wanted} or newer, {_OTHERWISE}"
    why = "go is not installed"
    if shutil.which("go") is not None:
        # Asked in the sources' directory: its go.mod may name a newer release, which go fetches.
        argv = ["go", "env", "GOVERSION"]
        told = run(argv, f"building {source}", cwd=directory, env=GO_ENVIRONMENT)
        match = _GO_VERSION.search(told)
        if match is None or (int(match[1]), int(match[2])) >= MIN_GO:
            return None
        why = f"{match[0]} is too old"
    tinygo = shutil.which("tinygo")
    if tinygo is None:
        raise BuildError(f"building {source}: {why}", remedy=remedy)
    return tinygo


def _build_rust(
    root: Path, source: str, target: Path, output: Path, debug: Callable[[str], None]
) -> None:
    if shutil.which("cargo") is None:
        raise BuildError(
            f"building {source}: cargo is not installed", remedy=f"install cargo, {_OTHERWISE}"
        )
    manifest = cargo_manifest(source)
    product = cargo_product(root, manifest)
    _require_rust_target((root / manifest).parent, source)
    home = os.environ.get("CARGO_HOME") or str(Path.home() / ".cargo")
    argv = cargo_argv(
        str(root / manifest), {home: "/cargo", str(target): "/target", str(root): "."}
    )
    debug(" ".join(argv))
    run(
        argv,
        f"building {source}",
        cwd=root,
        env={"CARGO_TARGET_DIR": str(target)},
        timeout_s=TIMEOUT_S,
    )
    try:
        (target / RUST_TARGET / "release" / f"{product}.wasm").rename(output)
    except OSError as e:
        raise BuildError(
            f"building {source}: cargo left no {product}.wasm: {e.strerror or e}",
            remedy='set crate-type = ["cdylib"] in [lib] of Cargo.toml',
        ) from None


def _require_rust_target(directory: Path, source: str) -> None:
    """Refuse a toolchain without the target's library, whose error names the crate ``core``."""
    if shutil.which("rustc") is None:
        return
    argv = ["rustc", "--print", "target-libdir", "--target", RUST_TARGET]
    try:
        told = run(argv, f"building {source}", cwd=directory).splitlines()
    except BuildError:
        told = []
    if not told or not Path(told[-1]).is_dir():
        raise BuildError(
            f"building {source}: this Rust has no target {RUST_TARGET}",
            remedy=f"run rustup target add {RUST_TARGET}, {_OTHERWISE}",
        )


def _build_c(root: Path, source: str, output: Path, debug: Callable[[str], None]) -> None:
    clang = require_clang()
    linker = find_linker(clang)
    if linker is None:
        raise BuildError(
            f"building {source}: wasm-ld, clang's linker for wasm, is not installed",
            remedy=f"install lld-{clang.version}, {_OTHERWISE}",
        )
    argv = c_argv(clang.path, source, str(output), str(headers.include_dir()), str(root))
    argv.insert(1, f"-fuse-ld={linker}")
    debug(" ".join(argv))
    run(argv, f"building {source}", cwd=root)


def find_linker(clang: Clang) -> str | None:
    """The ``wasm-ld`` of the compiler's release, or another one."""
    own = Path(clang.path).resolve().parent
    names = (f"wasm-ld-{clang.version}", str(own / "wasm-ld"), "wasm-ld")
    return next((found for name in names if (found := shutil.which(name))), None)
