"""Every clang of this machine that gadgets may be compiled with."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from ig_py.toolchain.clang import MAX_CLANG, MIN_CLANG, Clang
from ig_py.toolchain.compile import compile_object


@functools.cache
def each_clang() -> list[Clang]:
    """One for each release, the oldest first; none where there is no clang."""
    found: dict[int, Clang] = {}
    for name in (*(f"clang-{n}" for n in range(MIN_CLANG, MAX_CLANG + 1)), "clang"):
        path = shutil.which(name)
        if path is None:
            continue
        version = int(_ask(path, "-dumpversion").partition(".")[0])
        strip = shutil.which(f"llvm-strip-{version}") or shutil.which("llvm-strip")
        if version >= MIN_CLANG and strip is not None:
            found.setdefault(version, Clang(path, strip, version))
    return list(found.values())


def clang_params() -> list[ParameterSet]:
    """For ``params`` of a fixture in tests that need ``clang``."""
    found = [pytest.param(clang, id=f"clang{clang.version}") for clang in each_clang()]
    return found or [pytest.param(None, id="no-clang")]


def compile_with(clang: Clang, source: Path, out: Path, arch: str = "amd64") -> str:
    """As ``image build`` does it, into *out*; the compiler's warnings. Raises BuildError."""
    return compile_object(
        clang, source.parent, source.name, arch, out, log=print, debug=lambda _text: None
    )


def _ask(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout
