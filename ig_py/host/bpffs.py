"""Pinned maps where no BPF file system is mounted.

Maps that are shared by their names are pinned in ``/sys/fs/bpf``. Where that is no BPF file system
there are no shared maps: the gadget gets maps of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ig_py.host.private_mount import is_mounted, with_mount

BPFFS = Path("/sys/fs/bpf")

T = TypeVar("T")


def mounted() -> bool:
    """True when a BPF file system is where maps are pinned."""
    return is_mounted("bpf", BPFFS)


def with_bpffs(work: Callable[[], T]) -> T:
    """Run *work* where maps can be pinned: here, or in a thread that mounts bpf for itself.

    Raises:
        KernelError: Mounting fails. Besides, what *work* raises.
    """
    if mounted():
        return work()
    return with_mount("bpf", BPFFS, work, "pinning maps")
