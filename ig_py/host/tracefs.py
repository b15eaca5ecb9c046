"""Attaching where tracefs is not mounted, leaving no mount behind.

libbpf reads a tracepoint's id from tracefs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ig_py.host.private_mount import with_mount

TRACEFS = Path("/sys/kernel/tracing")
_DEBUGFS = Path("/sys/kernel/debug/tracing")

_USERS = frozenset(
    [
        *("tp", "tracepoint"),
        *("kprobe", "kretprobe", "ksyscall", "kretsyscall"),
        *("uprobe", "uretprobe", "usdt"),
    ]
)
"""Kinds of programs that libbpf attaches by tracefs: tracepoints always, probes where the kernel
has no perf event source for them."""

T = TypeVar("T")


def mounted() -> bool:
    """True when tracepoint ids can be read without mounting tracefs first."""
    return any((place / "events").is_dir() for place in (TRACEFS, _DEBUGFS))


def root() -> Path:
    """Where tracefs is mounted; to be called within :func:`with_tracefs`."""
    return next((place for place in (TRACEFS, _DEBUGFS) if (place / "events").is_dir()), TRACEFS)


def needs_tracefs(section: str) -> bool:
    """Does libbpf read tracefs to attach a program of this section?"""
    return section.lstrip("?").split("/", 1)[0].split(".", 1)[0] in _USERS


def with_tracefs(work: Callable[[], T]) -> T:
    """Run *work* where tracefs can be read: here, or in a thread that mounts it for itself.

    Raises:
        KernelError: Mounting fails. Besides, what *work* raises.
    """
    if mounted():
        return work()
    return with_mount("tracefs", TRACEFS, work, "reading tracepoints")
