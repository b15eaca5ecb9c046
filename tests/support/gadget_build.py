"""Objects and workload programs of the gadgets in tests/gadgets, for this machine.

``IG_PY_TEST_GADGETS`` names a directory where they are already: an emulated guest compiles
too slowly (:func:`build_all` fills one).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ig_py.toolchain.clang import Clang, require_clang
from ig_py.toolchain.compile import compile_object
from ig_py.toolchain.vmlinux import host_arch
from ig_py.toolchain.wasm import build_wasm
from support.compilers import each_clang
from support.gadget_format import FILE, GADGETS

VARIABLE = "IG_PY_TEST_GADGETS"
SOURCE = "program.bpf.c"
WORKLOAD = "workload.c"
GUEST = "guest.c"
ROOT = Path(__file__).parents[2]
COMPILERS = {
    "workload": ("cc", "-rdynamic"),
    "static": ("cc", "-static"),
    "musl": ("musl-gcc", "-rdynamic"),
}
"""Kind of a workload program → how it is compiled: with the machine's libraries, without libraries
(it runs wherever it is put), with musl's."""
_CC_SECONDS = 120


def has_program(name: str) -> bool:
    """False for a gadget of metadata alone."""
    return (GADGETS / name / SOURCE).exists()


def has_guest(name: str) -> bool:
    """Has the gadget a wasm module?"""
    return (GADGETS / name / GUEST).exists()


def guest_module(name: str, directory: Path) -> bytes:
    """The wasm module of ``tests/gadgets/<name>/guest.c``; made in *directory* as the objects."""
    path = _place(directory) / f"{name}.wasm"
    if not path.exists():
        build_wasm(GADGETS / name, GUEST, path.parent, lambda _text: None).rename(path)
    return path.read_bytes()


def gadget_object(name: str, directory: Path) -> bytes:
    """The eBPF object of ``tests/gadgets/<name>``; made in *directory* when it is not there."""
    return _compiled(GADGETS / name, SOURCE, _place(directory) / f"{name}.bpf.o")


def loadable_object(source: Path, clang: Clang, directory: Path) -> bytes:
    """The object of a gadget's directory or this repository's root, by one of the compilers."""
    out = _place(directory) / f"{source.name}.clang{clang.version}.bpf.o"
    return _compiled(source, SOURCE, out, clang)


def loadable_gadgets() -> list[Path]:
    """The directory of every gadget that has a program."""
    return [ROOT, *sorted(path.parent for path in GADGETS.glob(f"*/{SOURCE}"))]


def lacks_loadable_objects(clang: Clang) -> str:
    """Why :func:`loadable_object` has no objects of that compiler; "" when it has: where they are
    made beforehand, only those of the default compiler are."""
    if VARIABLE not in os.environ or clang.version == require_clang().version:
        return ""
    return f"{VARIABLE} holds objects of the default compiler only"


def compile_for_here(source: str, directory: Path) -> bytes:
    """The object of ``tests/gadgets/<source>``, with vmlinux.h and the gadgets' headers."""
    path = GADGETS / source
    return _compiled(path.parent, path.name, _place(directory) / f"{path.stem}.o")


def header_object(name: str, clang: Clang, directory: Path) -> bytes:
    """The object of ``tests/gadgets/headers/<name>.bpf.c``, by one of several compilers."""
    out = _place(directory) / f"{name}.clang{clang.version}.o"
    return _compiled(GADGETS / "headers", f"{name}.bpf.c", out, clang)


def _compiled(root: Path, source: str, out: Path, clang: Clang | None = None) -> bytes:
    if not out.exists():
        arch = host_arch()
        assert arch is not None, "gadgets are tested on amd64 and arm64"
        clang = clang or require_clang()
        compile_object(clang, root, source, arch, out, log=_say, debug=lambda _text: None)
    return out.read_bytes()


def workload_program(name: str, directory: Path, kind: str = "workload") -> Path | None:
    """``workload.c`` of the gadget, compiled; None when it has none.

    *kind*: one of :data:`COMPILERS`.
    """
    source = GADGETS / name / WORKLOAD
    if not source.exists():
        return None
    path = _place(directory) / f"{name}.{kind}"
    if not path.exists():
        # Symbols and notes stay where a test looks for them.
        argv = [*COMPILERS[kind], "-O1", "-g0", "-fno-inline", str(source), "-o", str(path)]
        subprocess.run(argv, check=True, timeout=_CC_SECONDS)
    return path


def build_all(directory: Path) -> None:
    """Everything that the tests may ask for, in *directory*."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in sorted(GADGETS.glob(f"*/{FILE}")):
        if has_program(path.parent.name):
            gadget_object(path.parent.name, directory)
        if has_guest(path.parent.name):
            guest_module(path.parent.name, directory)
        workload_program(path.parent.name, directory)
        workload_program(path.parent.name, directory, "static")
    for path in sorted(GADGETS.glob("core/*.bpf.c")):
        compile_for_here(str(path.relative_to(GADGETS)), directory)
    for source in loadable_gadgets():
        loadable_object(source, require_clang(), directory)
    for clang in each_clang():
        for path in sorted(GADGETS.glob("headers/*.bpf.c")):
            header_object(path.name.removesuffix(".bpf.c"), clang, directory)


def _place(directory: Path) -> Path:
    given = os.environ.get(VARIABLE)
    return Path(given) if given else directory


def _say(text: str) -> None:
    print(text, file=sys.stderr)
