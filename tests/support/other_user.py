"""Another user than root, with no rights: what any local user of a machine can do."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.waiting import deadline

FIRST = 61_000
RANGE = 3_000


class OtherUser:
    """A user id that nobody has, with ``/run/user/UID`` as logind gives it to every user."""

    def __init__(self) -> None:
        # Other runs of the tests, on the same machine, have users of their own.
        self.uid = FIRST + os.getpid() % RANGE
        self.runtime = Path(f"/run/user/{self.uid}")

    def argv(self, *command: str) -> list[str]:
        user = str(self.uid)
        return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", *command]

    def run(self, script: str) -> None:
        """Run a shell script to its end; CalledProcessError when it fails."""
        argv = self.argv("sh", "-ec", script)
        subprocess.run(argv, check=True, timeout=deadline(60), stdin=subprocess.DEVNULL)

    @contextlib.contextmanager
    def running(self, *command: str, executable: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """A process of this user, in the user's directory. *executable*: the program, where
        ``command[0]`` lies."""
        with subprocess.Popen(
            command,
            executable=executable or None,
            user=self.uid,
            group=self.uid,
            extra_groups=[],
            cwd=self.runtime,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@contextlib.contextmanager
def other_user() -> Iterator[OtherUser]:
    user = OtherUser()
    made = not user.runtime.parent.exists()
    user.runtime.mkdir(mode=0o700, parents=True)
    os.chown(user.runtime, user.uid, user.uid)
    try:
        yield user
    finally:
        shutil.rmtree(user.runtime)
        if made:
            with contextlib.suppress(OSError):
                user.runtime.parent.rmdir()
