"""Compiles the small objects of tests/gadgets with the core's own headers."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

from ig_py import _core

GADGETS = Path(__file__).parents[1] / "gadgets"
_ARCH = {"x86_64": "x86", "aarch64": "arm64"}[platform.machine()]


def clang() -> str:
    """The oldest supported clang, else any."""
    for name in ("clang-14", "clang"):
        found = shutil.which(name)
        if found:
            return found
    raise FileNotFoundError("no clang")


def compile_object(source: str, folder: Path, *defines: str) -> bytes:
    """Object of ``tests/gadgets/<source>``, built in *folder* with macros as ``NAME=VALUE``."""
    include = folder / "include"
    for name, content in _core.headers().items():
        header = include / name
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_bytes(content)
    out = folder / "out.bpf.o"
    done = subprocess.run(
        [
            clang(),
            "-target",
            "bpf",
            "-g",
            "-O2",
            "-Wall",
            f"-D__TARGET_ARCH_{_ARCH}",
            *[f"-D{define}" for define in defines],
            f"-I{include}",
            f"-I/usr/include/{platform.machine()}-linux-gnu",
            "-c",
            str(GADGETS / source),
            "-o",
            str(out),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out.read_bytes()
