"""runc and crun called without an engine."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.engine import find_program
from support.processes import output
from support.waiting import deadline


@dataclass(frozen=True)
class Runtime:
    """A runtime's program, or its path, with its containers' state below *root* ("": where it
    usually is)."""

    program: str
    root: str = ""

    def argv(self, *args: str) -> list[str]:
        """The command line. crun refuses to work where both control group versions are mounted,
        so it is shown the first only."""
        argv = [find_program(self.program), *(["--root", self.root] if self.root else []), *args]
        if Path(self.program).name == "crun" and Path("/sys/fs/cgroup/unified").exists():
            script = 'umount /sys/fs/cgroup/unified && exec "$0" "$@"'
            return ["unshare", "--mount", "sh", "-c", script, *argv]
        return argv

    def call(self, *args: str, check: bool = True) -> int:
        """Exit status; with *check* CalledProcessError when that is not 0. What the container
        prints goes nowhere: it would keep a pipe open."""
        return subprocess.run(
            self.argv(*args),
            check=check,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=deadline(60),
        ).returncode

    def run(self, name: str, bundle: Path) -> None:
        """Start a container in the background; CalledProcessError when that fails."""
        self.call("run", "--detach", "--bundle", str(bundle), name)

    def pid(self, name: str) -> int:
        """Process id of the container's init."""
        return int(json.loads(output(self.argv("state", name)))["pid"])

    def remove(self, name: str) -> None:
        argv = self.argv("delete", "--force", name)
        subprocess.run(argv, check=False, capture_output=True, timeout=deadline(30))
