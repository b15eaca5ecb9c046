"""Descriptors of a process, in particular its fanotify groups, from /proc."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path


def groups(pid: int) -> dict[str, int]:
    """Descriptor → how many marks its group has."""
    found = {}
    for descriptor, target in _targets(pid):
        if target == "anon_inode:[fanotify]":
            lines = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().splitlines()
            found[descriptor] = sum(line.startswith("fanotify ino:") for line in lines)
    return found


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def held(pid: int) -> Counter[str]:
    """What a tracer holds by kind, but for processes and namespaces: others may start containers
    on this machine."""
    found: Counter[str] = Counter()
    for _, target in _targets(pid):
        kind = re.sub(r":\[?\d+\]?$", "", target)
        if kind not in ("mnt", "net") and "pidfd" not in kind:
            found[kind] += 1
    return found


def pinned(pid: int) -> set[tuple[str, str]]:
    """Descriptors of ended processes and of namespaces that no process is known of."""
    pins, living = set(), set()
    for descriptor, target in _targets(pid):
        if target.startswith(("mnt:", "net:")):
            pins.add((descriptor, target))
        elif "pidfd" in target:
            facts = ""
            with contextlib.suppress(FileNotFoundError):
                facts = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text()
            process = facts.partition("Pid:")[2].partition("\n")[0].strip()
            if process == "-1":
                pins.add((descriptor, target))
            for kind in ("mnt", "net"):
                with contextlib.suppress(OSError):
                    living.add(str(Path(f"/proc/{process}/ns/{kind}").readlink()))
    return {pin for pin in pins if pin[1] not in living}


def _targets(pid: int) -> Iterator[tuple[str, str]]:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield descriptor.name, str(descriptor.readlink())


def named(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
