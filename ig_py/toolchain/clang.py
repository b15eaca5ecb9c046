"""Finding a clang that can compile gadgets, and the llvm-strip that belongs to it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ig_py.errors import BuildError
from ig_py.records import dataclass
from ig_py.toolchain.process import run

MIN_CLANG = 14
"""The first release whose BPF objects carry everything that gadgets use."""

MAX_CLANG = 40
"""Highest ``clang-N`` that is looked for."""

_VERSION = re.compile(r"clang version (\d+)\.")
_REMEDY = f"install clang {MIN_CLANG} or newer with llvm, or use --builder-image"


@dataclass(frozen=True)
class Clang:
    """A usable compiler: absolute paths and the major version."""

    path: str
    strip: str
    version: int


def find_clang() -> Clang | None:
    """The compiler to use: ``$CLANG``, ``clang``, then the newest ``clang-N``.

    ``$LLVM_STRIP`` names the strip program; by default the one of the same version or
    directory. None when there is no clang of at least MIN_CLANG at all.

    Raises:
        BuildError: ``$CLANG`` is set but cannot be used, or clang has no llvm-strip.
    """
    override = os.environ.get("CLANG")
    if override:
        path = shutil.which(override)
        if path is None:
            raise BuildError(f"finding clang: CLANG={override} does not exist")
        version = _version(path)
        if version is None or version < MIN_CLANG:
            raise BuildError(f"finding clang: CLANG={override} is not clang {MIN_CLANG} or newer")
        return Clang(path, _strip(path, version), version)
    for name in ("clang", *(f"clang-{n}" for n in range(MAX_CLANG, MIN_CLANG - 1, -1))):
        path = shutil.which(name)
        if path is None:
            continue
        version = _version(path)
        if version is not None and version >= MIN_CLANG:
            return Clang(path, _strip(path, version), version)
    return None


def newer_clang(than: Clang) -> Clang | None:
    """The next ``clang-N`` above the version of *than*; None when ``$CLANG`` chose it.

    Not the newest: each release relies on a younger verifier.

    Raises:
        BuildError: It has no llvm-strip.
    """
    if os.environ.get("CLANG"):
        return None
    for n in range(than.version + 1, MAX_CLANG + 1):
        path = shutil.which(f"clang-{n}")
        version = _version(path) if path is not None else None
        if path is not None and version is not None and version > than.version:
            return Clang(path, _strip(path, version), version)
    return None


def require_clang() -> Clang:
    """The compiler to use, as :func:`find_clang` finds it.

    Raises:
        BuildError: There is none, or it cannot be used.
    """
    found = find_clang()
    if found is None:
        raise BuildError(f"finding clang: no clang {MIN_CLANG} or newer in PATH", remedy=_REMEDY)
    return found


def _version(path: str) -> int | None:
    try:
        match = _VERSION.search(run([path, "--version"], f"asking {path} for its version"))
    except BuildError:
        return None
    return int(match.group(1)) if match else None


def _strip(clang: str, version: int) -> str:
    override = os.environ.get("LLVM_STRIP")
    for candidate in [override] if override else _strip_candidates(clang, version):
        if found := shutil.which(candidate):
            return found
    raise BuildError(
        f"finding llvm-strip for {clang}: there is neither llvm-strip-{version} nor llvm-strip",
        remedy=f"install llvm-{version}, or set LLVM_STRIP",
    )


def _strip_candidates(clang: str, version: int) -> Iterator[str]:
    own = Path(clang).resolve().parent
    yield f"llvm-strip-{version}"
    yield str(own / f"llvm-strip-{version}")
    yield str(own / "llvm-strip")
    yield "llvm-strip"
