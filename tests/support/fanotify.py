"""What fanotify groups a process holds, as the kernel tells it."""

from __future__ import annotations

import contextlib
from pathlib import Path


def groups(pid: int) -> dict[str, int]:
    """Descriptor → how many marks its group has."""
    found = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(descriptor.readlink()) == "anon_inode:[fanotify]":
                lines = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text().splitlines()
                found[descriptor.name] = sum(line.startswith("fanotify ino:") for line in lines)
    return found


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def named(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
