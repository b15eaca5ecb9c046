"""Compiling the eBPF program of a gadget with a clang of this machine.

Facts: docs/building.md#compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ig_py.errors import BuildError
from ig_py.records import dataclass, replace
from ig_py.toolchain import headers, own_types, vmlinux
from ig_py.toolchain.clang import Clang, newer_clang
from ig_py.toolchain.process import ToolFailed, run

ARCHITECTURES = ("amd64", "arm64")
TARGET_ARCH = {"amd64": "x86", "arm64": "arm64"}
MULTIARCH = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

RECORDED_INCLUDE = "/usr/include"
"""Directory of the headers in the objects' debug information, on every machine."""

CODE = (
    "-target",
    "bpf",
    "-mcpu=v3",
    "-Wall",
    "-Werror=implicit-function-declaration",
    "-g",
    "-O2",
)
"""What is compiled, here and in containers: the instruction set of Linux 5.1, with BTF.

A function that is not declared is an error, as it is of itself from clang 16 on: the object would
name a symbol that nothing defines, and no kernel could load it.

Up to release 19 clang's default instruction set has no 32-bit registers. Such code compares a
shifted copy of a 32-bit value and goes on with the original, of which the verifier then knows
nothing: it refuses programs that check all their bounds.
"""

# bpf_core_type_matches() needs release 15.
_CRASH_OF_14 = "Incorrect flag for llvm.bpf.preserve.type.info intrinsic"


@dataclass(frozen=True)
class Includes:
    """Include directories of this machine: API and libbpf headers, vmlinux.h, the system's.

    ``vmlinux`` is None when it could not be made; ``why`` then says the reason. A program
    that includes only the kernel's public headers compiles without.
    """

    api: Path
    vmlinux: Path | None
    system: Path | None
    why: BuildError | None = None


def find_includes(arch: str, log: Callable[[str], None]) -> Includes:
    """What a program for *arch* may include; ``why`` says why there is no vmlinux.h."""
    host = vmlinux.host_arch()
    system = Path(f"/usr/include/{MULTIARCH[host]}") if host else None
    types: Path | None = None
    why: BuildError | None = None
    try:
        types = vmlinux.include_dir(arch, log)
    except BuildError as e:
        why = e
    return Includes(
        headers.include_dir(),
        types,
        system if system is not None and system.is_dir() else None,
        why,
    )


def clang_argv(
    clang: str, source: str, arch: str, output: str, includes: Includes, root: Path
) -> list[str]:
    """The compiler's arguments; *source* is relative to *root*, its working directory.

    Nothing of this machine's directories gets into the object: they would be in the line
    information of .BTF.ext, and change the image's digest.
    """
    moved = [(includes.api, RECORDED_INCLUDE), (root, ".")]
    if includes.vmlinux is not None:
        moved.append((includes.vmlinux, f"{RECORDED_INCLUDE}/gadget/{arch}"))
    return [
        clang,
        *CODE,
        *(["-I", str(includes.system)] if includes.system else []),
        "-D",
        f"__TARGET_ARCH_{TARGET_ARCH[arch]}",
        "-fno-crash-diagnostics",
        "-fdebug-compilation-dir=.",
        *(f"-ffile-prefix-map={old}={new}" for old, new in moved),
        "-c",
        source,
        "-I",
        str(includes.api),
        *(["-I", str(includes.vmlinux)] if includes.vmlinux is not None else []),
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

    What *clang* cannot compile for its age is given to a newer one of this machine, unless
    ``$CLANG`` chose it. Types that the source declares itself win over those of vmlinux.h. DWARF is
    dropped, BTF stays.

    Raises:
        BuildError: It does not compile: the compiler's first error, with all of its output as
            detail.
    """
    includes = find_includes(arch, log)
    try:
        warnings = _compiled(clang, root, source, arch, output, includes, debug)
    except ToolFailed as e:
        if includes.why is not None and "'vmlinux.h' file not found" in e.output:
            raise includes.why from None
        if _CRASH_OF_14 in e.output:
            newer = newer_clang(clang)
            if newer is not None:
                log(f"clang {clang.version} cannot compile {source} for {arch}: using {newer.path}")
                return compile_object(newer, root, source, arch, output, log=log, debug=debug)
            raise BuildError(
                f"compiling {source} for {arch}: bpf_core_type_matches() crashes "
                f"clang {clang.version}",
                remedy="use clang 15 or newer (CLANG=clang-N), or bpf_core_type_exists()",
                detail=e.detail,
            ) from None
        raise
    _step([clang.strip, "-g", str(output)], f"stripping {output.name}", root, debug)
    return warnings


def _compiled(
    clang: Clang,
    root: Path,
    source: str,
    arch: str,
    output: Path,
    includes: Includes,
    debug: Callable[[str], None],
) -> str:
    """The compiler's warnings; tried again while the source repeats types of vmlinux.h."""
    attempt = f"compiling {source} for {arch}"
    for _ in range(own_types.MAX_ROUNDS):
        argv = clang_argv(clang.path, source, arch, str(output), includes, root)
        try:
            return _step(argv, attempt, root, debug)
        except ToolFailed as e:
            if includes.vmlinux is None:
                raise
            place = own_types.adapted(
                includes.vmlinux / "vmlinux.h", e.output, output.with_name(f"{arch}-vmlinux")
            )
            if place is None:
                raise
            includes = replace(includes, vmlinux=place)
    raise BuildError(
        f"{attempt}: it declares types that vmlinux.h has, again and again",
        remedy="leave out the source's declarations of kernel types",
    )


def _step(argv: Sequence[str], attempt: str, root: Path, debug: Callable[[str], None]) -> str:
    debug(" ".join(argv))
    return run(argv, attempt, cwd=root)
