"""The clang releases that gadgets are compiled with, each by the feature ``clang-N``.

Tests over compilers take their parameters from :data:`RELEASES`, so that every machine collects
the same tests; a release that is not installed is a skip. ``scripts/packages/compilers`` installs
the oldest and the newest release that Debian has.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from ig_py.toolchain.clang import MAX_CLANG, MIN_CLANG, Clang
from ig_py.toolchain.compile import compile_object
from support.waiting import deadline

NEWEST = 22
"""The newest release of clang that the tests know."""
RELEASES = range(MIN_CLANG, NEWEST + 1)


@functools.cache
def installed(release: int) -> Clang | None:
    """The clang of that *release*, under its own name or as ``clang``; it needs an llvm-strip."""
    for name in (f"clang-{release}", "clang"):
        path = shutil.which(name)
        if path is None or _release(path) != release:
            continue
        strip = shutil.which(f"llvm-strip-{release}") or shutil.which("llvm-strip")
        if strip is not None:
            return Clang(path, strip, release)
    return None


def each_clang() -> list[Clang]:
    """The installed releases, the oldest first; none where there is no clang."""
    return [
        clang
        for release in range(MIN_CLANG, MAX_CLANG + 1)
        if (clang := installed(release)) is not None
    ]


def clang_params() -> list[ParameterSet]:
    """For ``params`` of a fixture: every release; it gives them to :func:`require_release`."""
    return [
        pytest.param(release, id=f"clang{release}", marks=pytest.mark.needs(f"clang-{release}"))
        for release in RELEASES
    ]


def require_release(release: int) -> Clang:
    """The installed clang of *release*; KeyError when there is none: the test lacks a marker."""
    found = installed(release)
    if found is None:
        raise KeyError(f"clang-{release}")
    return found


def compile_with(clang: Clang, source: Path, out: Path, arch: str = "amd64") -> str:
    """As ``image build`` does it, into *out*; the compiler's warnings. Raises BuildError."""
    return compile_object(
        clang, source.parent, source.name, arch, out, log=print, debug=lambda _text: None
    )


@functools.cache
def _release(path: str) -> int:
    argv = [path, "-dumpversion"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=deadline(30))
    return int(done.stdout.partition(".")[0])
