"""Types that a source declares although vmlinux.h has them too: the source's own win.

Which types a kernel has depends on its release and configuration, so a source that declares one for
itself compiles with some headers and not with others. Where the compiler finds two definitions, the
header's gets another name behind ``___``, which CO-RE does not count as part of a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

SUFFIX = "___vmlinux"
MAX_ROUNDS = 16
"""Compilations of one source: a compiler tells so many errors and then stops, and a type that is
renamed may hide another."""

_BEGIN = "#define __VMLINUX_H__\n"

_CLASH = re.compile(r": error: .*(?:redefinition|conflicting types|different kind of symbol)")
_NOTE = re.compile(r"vmlinux\.h:([0-9]+):([0-9]+): note: previous ")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TAGGED = re.compile(r"\b(struct|union|enum)\s+\Z")


def clashes(output: str, header: str) -> set[tuple[str, str]]:
    """What *header* and the source both define, by the compiler's *output*: (tag, name).

    The tag is ``struct``, ``union`` or ``enum``; empty for typedefs and enumerators.
    """
    lines = header.split("\n")
    found: set[tuple[str, str]] = set()
    for line, column in _places(output):
        if not 0 < line <= len(lines):
            continue
        text = lines[line - 1]
        name = _NAME.match(text, column - 1)
        if name is not None:
            tag = _TAGGED.search(text[: column - 1])
            found.add((tag.group(1) if tag else "", name.group()))
    return found


def without(header: str, own: set[tuple[str, str]]) -> str:
    """*header* with other names for its definitions of *own*.

    What the header's types point to is the source's type from then on; members keep the header's
    layout.
    """
    forward = ""
    for tag, name in sorted(own):
        other = f"{name}{SUFFIX}"
        if tag in ("struct", "union"):
            header = re.sub(rf"\b{tag} {name}\b(?! *\*|;)", f"{tag} {other}", header)
            forward += f"{tag} {name};\n"
        elif tag:
            header = re.sub(rf"\benum {name}\b", f"enum {other}", header)
        else:
            header = re.sub(rf"(?<!struct )(?<!union )(?<!enum )\b{name}\b", other, header)
    guard, begin, rest = header.partition(_BEGIN)
    return f"{guard}{begin}{forward}{rest}" if begin else forward + header


def _places(output: str) -> Iterator[tuple[int, int]]:
    """Line and column of each definition in vmlinux.h that the source repeats."""
    clash = False
    for line in output.splitlines():
        if ": error: " in line:
            clash = _CLASH.search(line) is not None
        elif clash and (note := _NOTE.search(line)):
            yield int(note.group(1)), int(note.group(2))


def adapted(header: Path, output: str, directory: Path) -> Path | None:
    """A directory below *directory* whose vmlinux.h leaves the source its own types.

    None when the compiler's *output* tells of no definition in *header* that the source repeats.
    """
    text = header.read_text()
    own = clashes(output, text)
    if not own:
        return None
    directory.mkdir(exist_ok=True)
    (directory / "vmlinux.h").write_text(without(text, own))
    return directory
