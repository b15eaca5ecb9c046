"""Compiling the eBPF program of a gadget with a clang of this machine (spec §4.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ig_py.toolchain import headers, vmlinux
from ig_py.toolchain.clang import Clang
from ig_py.toolchain.process import run

ARCHITECTURES = ("amd64", "arm64")
TARGET_ARCH = {"amd64": "x86", "arm64": "arm64"}
MULTIARCH = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

RECORDED_INCLUDE = "/usr/include"
"""Where objects say that the headers were, whatever directory they came from."""


@dataclass(frozen=True)
class Includes:
    """Include directories of this machine: API and libbpf headers, vmlinux.h, the system's."""

    api: Path
    vmlinux: Path
    system: Path | None


def find_includes(arch: str, log: Callable[[str], None]) -> Includes:
    """Lay out what a program for *arch* may include. Raises BuildError."""
    host = vmlinux.host_arch()
    system = Path(f"/usr/include/{MULTIARCH[host]}") if host else None
    return Includes(
        headers.include_dir(),
        vmlinux.include_dir(arch, log),
        system if system is not None and system.is_dir() else None,
    )


def clang_argv(
    clang: str, source: str, arch: str, output: str, includes: Includes, root: Path
) -> list[str]:
    """The compiler's arguments; *source* is relative to *root*, its working directory.

    Nothing of this machine's directories gets into the object: they would be in the line
    information of .BTF.ext, and change the image's digest.
    """
    moved = [
        (includes.api, RECORDED_INCLUDE),
        (includes.vmlinux, f"{RECORDED_INCLUDE}/gadget/{arch}"),
        (root, "."),
    ]
    return [
        clang,
        "-target",
        "bpf",
        "-Wall",
        "-g",
        "-O2",
        *(["-I", str(includes.system)] if includes.system else []),
        "-D",
        f"__TARGET_ARCH_{TARGET_ARCH[arch]}",
        "-fdebug-compilation-dir=.",
        *(f"-ffile-prefix-map={old}={new}" for old, new in moved),
        "-c",
        source,
        "-I",
        str(includes.api),
        "-I",
        str(includes.vmlinux),
        "-o",
        output,
    ]


def compile_object(
    clang: Clang,
    root: Path,
    source: str,
    arch: str,
    output: Path,
    *,
    log: Callable[[str], None],
    debug: Callable[[str], None],
) -> str:
    """Compile *source* of the gadget in *root* into *output*; the compiler's warnings.

    DWARF is dropped, BTF stays. Raises BuildError with the first error of the compiler and
    all of its output as detail.
    """
    includes = find_includes(arch, log)
    argv = clang_argv(clang.path, source, arch, str(output), includes, root)
    warnings = _step(argv, f"compiling {source} for {arch}", root, debug)
    _step([clang.strip, "-g", str(output)], f"stripping {output.name}", root, debug)
    return warnings


def _step(argv: Sequence[str], attempt: str, root: Path, debug: Callable[[str], None]) -> str:
    debug(" ".join(argv))
    return run(argv, attempt, cwd=root)
