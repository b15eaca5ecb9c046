"""A container of root's without rights over the host, whose program is Python.

Two kinds: ``user namespace``, whose user ids are a plain user's, and which has all rights within;
``no capabilities``, whose user id 0 is the host's. Neither has a seccomp filter.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.oci_bundle import runc_spec
from support.oci_runtime import Runtime
from support.waiting import deadline, wait_for

KINDS = ("user namespace", "no capabilities")
FIRST_ID = 1_900_000
IDS = 65_536
SHARED = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""The machine's programs and libraries, which the container sees and cannot write."""
RIGHTS = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "LEASE", "MKNOD"),
    *("NET_ADMIN", "NET_RAW", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_CHROOT"),
    *("SYS_PTRACE", "SYS_RESOURCE"),
)
"""Capabilities of the user namespace."""
_DIRECTORIES = ("dev", "proc", "tmp", "etc", "run", "own")
_numbers = itertools.count(1)
PYTHON = os.path.realpath("/usr/bin/python3")


class PythonContainer:
    """A container that is not started yet.

    Attributes:
        root: Its root directory, all of which it can write but :data:`SHARED`.
        own: Its directory ``/own``, which is its programs' first directory.
        uid: The host's number of its user 0.
    """

    def __init__(self, directory: Path, name: str, kind: str, argv: Sequence[str]) -> None:
        self.name = name
        self.kind = kind
        self.uid = FIRST_ID if kind == "user namespace" else 0
        self.root = directory / "rootfs"
        self.own = self.root / "own"
        self._bundle = directory
        self.runtime = Runtime("runc", str(directory / "state"))
        self._make_root()
        self._write_config(argv)

    def start(self) -> int:
        """The pid of its first process."""
        self.runtime.run(self.name, self._bundle)
        return self.runtime.pid(self.name)

    def wait_for_file(self, name: str) -> str:
        """The content of a file that its program writes to ``/own``."""

        def content() -> str:
            path = self.own / name
            return path.read_text() if path.exists() else ""

        return wait_for(content, f"{self.name} wrote {name}", 60)

    def remove(self) -> None:
        self.runtime.remove(self.name)

    def _make_root(self) -> None:
        self.root.mkdir(parents=True)
        for name in _DIRECTORIES:
            (self.root / name).mkdir()
            os.chown(self.root / name, self.uid, self.uid)
        os.chown(self.root, self.uid, self.uid)
        for place in map(Path, SHARED):
            target = self.root / place.name
            if place.is_symlink():
                target.symlink_to(place.readlink())
            elif place.is_dir():
                target.mkdir()

    def _write_config(self, argv: Sequence[str]) -> None:
        config = runc_spec(self._bundle)
        config["root"]["readonly"] = False
        process, linux = config["process"], config["linux"]
        process |= {"args": list(argv), "cwd": "/own"}
        process["noNewPrivileges"] = False
        process.pop("rlimits", None)
        # A user namespace may not mount them.
        unused = ("/sys", "/sys/fs/cgroup")
        config["mounts"] = [m for m in config["mounts"] if m["destination"] not in unused]
        for place in SHARED:
            if Path(place).is_dir() and not Path(place).is_symlink():
                options = ["rbind", "ro", "nosuid"]
                mount = {"type": "bind", "source": place, "destination": place, "options": options}
                config["mounts"].append(mount)
        if self.kind == "user namespace":
            mapping = [{"containerID": 0, "hostID": FIRST_ID, "size": IDS}]
            linux |= {"uidMappings": mapping, "gidMappings": mapping}
            linux["namespaces"].append({"type": "user"})
            sets = ("bounding", "effective", "permitted", "inheritable")
            process["capabilities"] = {s: [f"CAP_{right}" for right in RIGHTS] for s in sets}
        else:
            process["capabilities"] = {}
        (self._bundle / "config.json").write_text(json.dumps(config))


@contextlib.contextmanager
def python_container(kind: str, script: str, *arguments: str) -> Iterator[PythonContainer]:
    """A container for the Python program *script*; removed when the block ends."""
    # Each has a name of its own: the control groups of earlier ones go a little later than they.
    name = f"ig-py-{os.getpid()}-container-{next(_numbers)}"
    # Users other than root may not go through the directories of pytest.
    directory = Path(tempfile.mkdtemp(prefix="ig-py-container-", dir="/var/tmp"))
    directory.chmod(0o755)
    found = PythonContainer(directory / "bundle", name, kind, (PYTHON, "-c", script, *arguments))
    try:
        yield found
    finally:
        found.remove()
        # shutil.rmtree() fails where directories are deeper than Python's calls can be.
        subprocess.run(["rm", "-rf", str(directory)], check=True, timeout=deadline(60))
