"""Looking at a tracer from outside: has a process attached its programs yet?

Works for any tool: it counts what the process holds open, as the kernel names it.
"""

from __future__ import annotations

from pathlib import Path

_KINDS = {
    "links": ("anon_inode:bpf_link", "anon_inode:bpf-link"),
    "programs": ("anon_inode:bpf-prog",),
}


def held(pid: int, kind: str) -> int:
    """How many BPF ``links`` or ``programs`` *pid* and its threads hold; 0 when it is gone."""
    count = 0
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            count += target in _KINDS[kind]
    except OSError:
        return 0
    return count


def children(pid: int) -> list[int]:
    """Direct children of every thread of *pid*."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in listing.read_text().split()]
        except OSError:
            continue
    return found
