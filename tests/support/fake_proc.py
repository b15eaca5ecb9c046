"""A host below a directory: processes with the namespaces, control groups and words one wants."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from ig_py.host.proc import HostView, Process

ALL_CAPABILITIES = "000001ffffffffff"
ALL_IDS = "0 0 4294967295\n"
"""A uid_map of the initial user namespace."""


class OwnedNamespaces(HostView):
    """Namespaces that are files have the owners that the test says, by pid."""

    def __init__(self, root: str = "/") -> None:
        super().__init__(root)
        self.owners: dict[int, int] = {}

    def owner_of(self, pid: int) -> int | None:
        return self.owners.get(pid)


class OneInit(HostView):
    """A process that is the init of several containers is in another mount namespace for each."""

    def __init__(self, root: str = "/") -> None:
        super().__init__(root)
        self._numbers = itertools.count(1 << 33)

    def open(self, pid: int, born: int = 0) -> Process:
        process = super().open(pid, born)
        process.mntns = next(self._numbers)
        return process


class FakeHost:
    """``root`` is what HOST_ROOT would be. Namespaces are files, told apart by inode number."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.view = OwnedNamespaces(str(root))
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
        user: int | None = None,
        uid_map: str = ALL_IDS,
        capabilities: str = ALL_CAPABILITIES,
    ) -> None:
        """*levels*: its numbers in the pid namespaces below the host's. *user*: whose process it
        is, None for the one who runs the test. With another *uid_map* than that of the host, it is
        in a user namespace of that user's, in which its mount namespace was created."""
        here = self.root / f"proc/{pid}"
        (here / "ns").mkdir(parents=True)
        own = os.getuid() if user is None else user
        if uid_map != ALL_IDS:
            self.view.owners[pid] = own
        uids = "\t".join([str(own)] * 4)
        status = f"Name:\tx\nPPid:\t{parent}\nNSpid:\t{pid}\t{levels}\n"
        (here / "status").write_text(f"{status}Uid:\t{uids}\nCapEff:\t{capabilities}\n")
        (here / "uid_map").write_text(uid_map)
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
