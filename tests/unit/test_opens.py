"""Every call that opens a file, and why another user cannot choose what it opens.

Files that others can name or make are opened by ig_py.host.safe_open alone. A new call of open()
in the package fails here until it is converted, or listed with its reason.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

BY_NAME = frozenset({"open", "fopen", "openat"})
BY_ATTRIBUTE = frozenset(
    {
        "copy2",
        "copyfile",
        "copytree",
        "open",
        "read_bytes",
        "read_text",
        "write_bytes",
        "write_text",
    }
)
FROM = {"os": {"open"}, "io": {"open", "FileIO"}, "shutil": {"copy", "copy2", "copyfile"}}
"""Modules whose opening functions are not to be imported by name, where this test misses them."""

NO_FILE = "no file is opened: a method of ours that is called open or write_text"
KERNEL = "a file of the kernel at a fixed place of procfs, sysfs, tracefs or a namespace"
OWN = "in a directory that this user alone can write: the store, the cache or a scratch directory"
PACKAGE = "a file of the installed package"

ALLOWED = {
    # The functions that all other modules use.
    ("host/safe_open.py", "os.open"): "safe_open itself: an argument, and O_PATH before anything",
    ("host/safe_open.py", "request.open"): NO_FILE,
    ("host/openat2.py", "os.open"): "safe_open's look-up of names with O_PATH, and /proc/self",
    # The kernel.
    ("host/files.py", "os.open"): KERNEL,
    ("host/proc.py", "os.open"): KERNEL,
    ("host/executing.py", "os.open"): "the memory of a process, which procfs shows",
    ("host/mounted_root.py", "os.open"): "roots of processes with O_PATH, of which /proc tells",
    ("host/mounted_root.py", "Path(f'/proc/self/fdinfo/{fd}').read_text"): KERNEL,
    ("host/mounted_root.py", "Path(process, 'mountinfo').open"): KERNEL,
    ("runtime/loader.py", "VMLINUX_BTF.read_bytes"): KERNEL,
    ("runtime/packets.py", "os.open"): KERNEL,
    ("runtime/packets.py", "Path(view.root, 'sys/class/net', name, 'ifindex').read_text"): KERNEL,
    ("runtime/uprobes.py", "os.open"): "roots of processes with O_PATH; the core opens below them",
    ("operators/bpf_stats.py", "SWITCH.read_text"): KERNEL,
    ("operators/bpf_stats.py", "SWITCH.write_text"): KERNEL,
    ("operators/ebpf_enum.py", "KERNEL_BTF.read_bytes"): KERNEL,
    ("operators/trace_pipe.py", "os.open"): KERNEL,
    ("toolchain/vmlinux.py", "kernel_btf.SYSFS_BTF.read_bytes"): KERNEL,
    ("cli/__init__.py", "os.open"): "/dev/null",
    ("cli/__init__.py", "open"): "/dev/null",
    ("host/pins.py", "os.open"): "directories of records in the BPF file system, no links, of root",
    ("host/nonblocking.py", "os.open"): "standard output itself, once more, by /proc/self/fd",
    ("containers/engines/config.py", "os.open"): "/run/user/UID with O_PATH; below it openat2",
    # Files of root.
    # Files of this user or of the package.
    ("gadget/schema.py", "SCHEMA_FILE.read_text"): PACKAGE,
    ("toolchain/headers.py", "path.read_bytes"): PACKAGE,
    ("toolchain/headers.py", "path.write_bytes"): OWN,
    ("toolchain/cache.py", "path.open"): OWN,
    ("toolchain/btfgen.py", "output.write_bytes"): OWN,
    ("toolchain/btfgen.py", "path.open"): OWN,
    ("toolchain/btfgen.py", "target.open"): OWN,
    ("toolchain/btfgen.py", "tarfile.open"): "on an open file",
    ("toolchain/debian.py", "tarfile.open"): "on a pipe",
    ("runtime/btf_archive.py", "tarfile.open"): "on bytes of an image",
    ("containers/ended_rows.py", "os.open"): KERNEL,
    ("toolchain/debian.py", "(root / 'sources.list').write_text"): OWN,
    ("toolchain/own_types.py", "(directory / 'vmlinux.h').write_text"): OWN,
    ("toolchain/own_types.py", "header.read_text"): OWN,
    ("toolchain/vmlinux.py", "header.open"): OWN,
    ("toolchain/vmlinux.py", "(directory / 'vmlinux.h').write_text"): OWN,
    ("toolchain/vmlinux.py", "(directory / 'vmlinux.h').read_bytes"): OWN,
    ("toolchain/vmlinux.py", "(copy / 'vmlinux.h').write_bytes"): "an argument: --to",
    ("inspect/docs.py", "path.write_text"): "an argument",
    ("oci/archive.py", "target.open"): "an argument: the archive to write is a pipe or a device",
    ("host/removal.py", "os.open"): "directories that are removed: O_DIRECTORY and O_NOFOLLOW",
    ("host/scratch.py", "os.open"): "O_EXCL, or what has our prefix: O_NOFOLLOW and O_NONBLOCK",
    ("oci/ingest.py", "os.open"): OWN,
    ("oci/lock.py", "os.open"): "O_NOFOLLOW | O_NONBLOCK, in the store or beside an argument",
    # No files.
    ("cli/_image.py", "Store.open"): NO_FILE,
    ("resolver.py", "Store.open"): NO_FILE,
    ("cli/_run.py", "formatter.write_text"): NO_FILE,
    ("containers/admission.py", "self._scout.open"): NO_FILE,
    ("containers/discovery.py", "self.view.open"): NO_FILE,
    ("containers/tracker.py", "admission.open"): NO_FILE,
}
"""(file, call) → why it is safe."""
TIMES = {
    ("host/removal.py", "os.open"): 2,
    ("host/scratch.py", "os.open"): 4,
    ("host/pins.py", "os.open"): 2,
    ("host/safe_open.py", "os.open"): 5,
    ("host/safe_open.py", "request.open"): 3,
    ("toolchain/btfgen.py", "tarfile.open"): 2,
    ("host/openat2.py", "os.open"): 2,
    ("host/files.py", "os.open"): 2,
    ("host/proc.py", "os.open"): 3,
    ("runtime/packets.py", "os.open"): 3,
    ("operators/bpf_stats.py", "SWITCH.write_text"): 2,
    ("runtime/uprobes.py", "os.open"): 2,
    ("oci/ingest.py", "os.open"): 7,
    ("oci/lock.py", "os.open"): 2,
}
"""How often, where it is more than once."""

CORE = re.compile(
    r"\b(File::(?:open|create)|OpenOptions::new|fs::(?:read|write|read_to_string|copy)\b"
    r"|libc::open(?:at)?\b)"
)
CORE_ALLOWED = {
    "binary/root.rs": "the core's own safe open",
    "bpf/families.rs": "cgroup directories and the list of processors",
    "bpf/offsets.rs": "/sys/kernel/btf/vmlinux",
    "bpf/perf_probe.rs": "sysfs, and tracefs in a private mount",
    "bpf/statistics.rs": "/proc/self/fdinfo",
    "symbols/process.rs": "files of /proc/PID, and its root with O_PATH",
    "wasm/kallsyms.rs": "/proc/kallsyms",
}
"""Files of core/src → why what they open is safe."""


def calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names} & FROM.get(node.module or "", set())
            yield from (f"from {node.module} import {name}" for name in names)
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id in BY_NAME:
            yield function.id
        if isinstance(function, ast.Attribute) and function.attr in BY_ATTRIBUTE:
            yield ast.unparse(function)


def test_every_open_of_the_package_has_a_reason() -> None:
    package = ROOT / "ig_py"
    found = Counter(
        (path.relative_to(package).as_posix(), call)
        for path in package.rglob("*.py")
        if not path.is_relative_to(package / "testing")
        for call in calls(ast.parse(path.read_text()))
    )
    allowed = Counter({call: TIMES.get(call, 1) for call in ALLOWED})
    assert sorted(found - allowed) == [], "use ig_py.host.safe_open, or give a reason"
    assert sorted(allowed - found) == [], "no longer there: delete the entry"


def test_every_open_of_the_core_has_a_reason() -> None:
    source = ROOT / "core/src"
    found: Counter[str] = Counter()
    for path in source.rglob("*.rs"):
        # Tests of a module stand at its end.
        text = path.read_text().partition("#[cfg(test)]\nmod tests")[0]
        found[path.relative_to(source).as_posix()] += len(CORE.findall(text))
    assert sorted((+found).keys() - CORE_ALLOWED.keys()) == [], "use binary::root, or give a reason"
    assert sorted(CORE_ALLOWED.keys() - (+found).keys()) == [], "delete the entry"


def test_what_is_searched_for_is_found() -> None:
    text = """
import os, shutil
from os import open as o
from pathlib import Path
open("a"); os.open("a", 0); Path("a").read_text(); p.open(); shutil.copyfile(a, b)
"""
    assert set(calls(ast.parse(text))) == {
        "from os import open",
        "open",
        "os.open",
        "Path('a').read_text",
        "p.open",
        "shutil.copyfile",
    }
    assert CORE.search("let file = std::fs::File::open(path)?;")
