"""The threads of this process, those that the core started among them."""

from __future__ import annotations

from pathlib import Path


def names_of_threads() -> list[str]:
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_text().rstrip("\n"))
        except OSError:
            continue
    return names
