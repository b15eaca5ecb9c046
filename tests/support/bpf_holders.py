"""Which processes hold which BPF programs and maps: other tracers run on the machine, too."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from support.bpf_ids import Kind

_FIELDS: dict[str, Kind] = {"prog_id": "program", "map_id": "map"}
_BPF = "anon_inode:bpf"
"""Begins the names of descriptors of programs, maps and links."""


def held_by(pid: int) -> set[tuple[Kind, int]]:
    """Kind and id of what *pid* has descriptors of, or links to; nothing when it is gone."""
    found: set[tuple[Kind, int]] = set()
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return found
    for descriptor in descriptors:
        try:
            if not str(descriptor.readlink()).startswith(_BPF):
                continue
            lines = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(":")
            if name in _FIELDS:
                found.add((_FIELDS[name], int(value)))
    return found


def not_of_others(kind: Kind, numbers: Iterable[int]) -> set[int]:
    """Those of *numbers* that no other process holds: this process's, and those without any."""
    found = set(numbers)
    for entry in Path("/proc").iterdir():
        if not found:
            break
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            found -= {number for held, number in held_by(int(entry.name)) if held == kind}
    return found
