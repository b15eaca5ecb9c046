"""Root directories of containers with one program, linked in different ways."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from support.gadget_build import workload_program
from support.waiting import deadline

LAYOUTS = ("static", "usual", "cache")
"""Without libraries; these where the loader looks by itself; these where only the ld.so.cache says.
"""
PROGRAM = "/program"


def make_tree(directory: Path, layout: str, gadget: str, built: Path) -> Path:
    """A root directory with the gadget's workload as :data:`PROGRAM`."""
    directory.mkdir(parents=True)
    program = workload_program(gadget, built, static=layout == "static")
    assert program is not None
    shutil.copy(program, directory / PROGRAM[1:])
    for name in ("dev", "proc", "sys", "etc"):
        (directory / name).mkdir()
    if layout != "static":
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
