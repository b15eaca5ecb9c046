"""Root directories of containers with one program, linked in different ways."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

from support.gadget_build import workload_program
from support.waiting import deadline

LAYOUTS = ("static", "usual", "cache")
"""Without libraries; these where the loader looks by itself; these where only the ld.so.cache says.
"""
MUSL = "musl"
"""A further one: musl's C library where Alpine Linux has it, which has no ld.so.cache."""
PROGRAM = "/program"


def make_tree(directory: Path, layout: str, gadget: str, built: Path) -> Path:
    """A root directory with the gadget's workload as :data:`PROGRAM`."""
    directory.mkdir(parents=True)
    kind = layout if layout in ("static", MUSL) else "workload"
    program = workload_program(gadget, built, kind)
    assert program is not None
    shutil.copy(program, directory / PROGRAM[1:])
    for name in ("dev", "proc", "sys", "etc"):
        (directory / name).mkdir()
    if layout == MUSL:
        _add_musl(directory)
    elif layout != "static":
        _add_libraries(directory, program, layout)
    return directory


def _add_libraries(directory: Path, program: Path, layout: str) -> None:
    listed = subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True)
    for found in re.findall(r"(/\S+) \(0x", listed.stdout):
        library = Path(found)
        loader = library.name.startswith("ld-linux")
        place = found if loader or layout == "usual" else f"/opt/own/{library.name}"
        target = directory / place[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library.resolve(), target)
    if layout == "cache":
        (directory / "etc/ld.so.conf").write_text("/opt/own\n")
        argv = ["/sbin/ldconfig", "-r", str(directory)]
        subprocess.run(argv, check=True, capture_output=True, timeout=deadline(30))


def _add_musl(directory: Path) -> None:
    loader = f"ld-musl-{platform.machine()}.so.1"
    (directory / "lib").mkdir()
    shutil.copy(Path("/lib", loader).resolve(), directory / "lib" / loader)
    (directory / "lib" / f"libc.{loader.removeprefix('ld-')}").symlink_to(loader)
