"""Keeps the diagrams of a gadget's DEVELOPER.md equal to its built object.

``python -m ig_py.inspect.docs --check|--write [--object FILE] [DIRECTORY]``

The object is compiled from DIRECTORY (default: here) unless one is given. Only
the diagrams are the program's; every other word of the file is its authors'.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ig_py.errors import IgPyError, ObjectError, UsageError
from ig_py.gadget.elf import MAX_FILE_SIZE, Elf
from ig_py.host.safe_open import FileRefused, read_argument
from ig_py.inspect.program_graph import ProgramGraph

DOCUMENT = "DEVELOPER.md"
MAX_DOCUMENT = 4 << 20
FLOWCHART = "### Flowchart"
SEQUENCE = "### Sequence Diagram"


def _block(heading: str) -> re.Pattern[str]:
    return re.compile(
        rf"^{re.escape(heading)}\n(?:(?!#|```).*\n)*```mermaid\n((?:(?!```).*\n)*)```$",
        re.MULTILINE,
    )


def replace_diagrams(text: str, graph: ProgramGraph) -> str:
    """*text* with the first Mermaid block below each of the two headings replaced.

    Raises:
        UsageError: A heading or its block is missing.
    """
    for heading, diagram in ((FLOWCHART, graph.flowchart()), (SEQUENCE, graph.sequence())):
        found = _block(heading).search(text)
        if found is None:
            raise UsageError(f"{DOCUMENT} has no Mermaid block below {heading!r}")
        text = text[: found.start(1)] + diagram + text[found.end(1) :]
    return text


def _read_object(path: Path) -> bytes:
    try:
        return read_argument(path, most=MAX_FILE_SIZE)
    except FileRefused as err:
        raise ObjectError(err.message) from None


def _built_object(directory: Path) -> bytes:
    from ig_py.gadget.load import ebpf_object
    from ig_py.oci.options import ResolveOptions
    from ig_py.resolver import resolve

    obj = ebpf_object(resolve(str(directory), ResolveOptions(pull="never")))
    if obj is None:
        raise ObjectError(f"the gadget in {directory} has no eBPF object")
    return obj


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: up to date or written; 1: stale, or an error, printed on stderr."""
    parser = argparse.ArgumentParser(prog="python -m ig_py.inspect.docs", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="fail when the diagrams are stale")
    action.add_argument("--write", action="store_true", help="bring the diagrams up to date")
    parser.add_argument("--object", type=Path, help="a compiled eBPF object of the gadget")
    parser.add_argument("directory", nargs="?", type=Path, default=Path())
    options = parser.parse_args(argv)
    try:
        return _run(options.directory, options.object, write=options.write)
    except IgPyError as err:
        print(f"Error: {err}", file=sys.stderr)
        return 1


def _run(directory: Path, obj: Path | None, *, write: bool) -> int:
    path = directory / DOCUMENT
    try:
        old = read_argument(path, most=MAX_DOCUMENT).decode()
    except (FileRefused, UnicodeDecodeError) as err:
        raise UsageError(f"reading {path}: {getattr(err, 'reason', err)}") from None
    raw = _read_object(obj) if obj else _built_object(directory.resolve())
    new = replace_diagrams(old, ProgramGraph(Elf(raw, str(obj or directory))))
    if new == old:
        return 0
    if not write:
        print(f"{path}: the diagrams are stale; run: make docs", file=sys.stderr)
        return 1
    try:
        path.write_text(new, encoding="utf-8")
    except OSError as err:
        raise UsageError(f"writing {path}: {err.strerror}") from err
    return 0


if __name__ == "__main__":
    sys.exit(main())
