"""A process that ends, and another one that gets its number at once."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
"""The number before the next one that the kernel gives (proc(5))."""
ATTEMPTS = 500
SLEEP = ("sleep", "300")


def born_again(
    ended: subprocess.Popen[bytes], argv: Sequence[str] = SLEEP, user: int | None = None
) -> subprocess.Popen[bytes]:
    """End *ended*; a process of *argv* with its number. *user*: whose it is."""
    number = ended.pid
    ended.kill()
    ended.wait()
    for _ in range(ATTEMPTS):
        LAST_PID.write_text(str(number - 1))
        process = subprocess.Popen(argv, user=user, group=user, stdin=subprocess.DEVNULL)
        if process.pid == number:
            return process
        # Another process of this machine was faster.
        process.kill()
        process.wait()
    raise RuntimeError(f"no process got the number {number}")
