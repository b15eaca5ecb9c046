"""A host below a directory: processes with the namespaces, control groups and words one wants."""

from __future__ import annotations

import os
from pathlib import Path


class FakeHost:
    """``root`` is what HOST_ROOT would be. Namespaces are files, told apart by inode number."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "ns").mkdir()
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/status").write_text("NSpid:\t7\n")
        self.process(1)

    def process(
        self,
        pid: int,
        *,
        parent: int = 0,
        mntns: str = "host",
        levels: str = "",
        cgroup: str = "/",
        words: tuple[str, ...] = (),
        start: int = 0,
    ) -> None:
        """*levels*: its numbers in the pid namespaces below the host's."""
        here = self.root / f"proc/{pid}"
        (here / "ns").mkdir(parents=True)
        status = f"Name:\tx\nPPid:\t{parent}\nNSpid:\t{pid}\t{levels}\n"
        (here / "status").write_text(status)
        (here / "cgroup").write_text(f"0::{cgroup}\n")
        (here / "cmdline").write_bytes(b"\0".join(word.encode() for word in (*words, "")))
        fields = " ".join(["S", *["0"] * 18, str(start), "0"])
        (here / "stat").write_text(f"{pid} (odd) name) {fields}\n")
        for kind in ("mnt", "net"):
            (self.root / "ns" / mntns).touch()
            os.link(self.root / "ns" / mntns, here / "ns" / kind)
        (here / "root").symlink_to(self.root)

    def write(self, path: str, text: str) -> None:
        """A file of the host."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
