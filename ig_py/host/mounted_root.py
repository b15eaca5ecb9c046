"""Which directory of which file system a process has for its root, told by /proc alone.

No file system is asked: that of a container may be FUSE, whose server answers when it likes.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from ig_py.host.files import require_absent

MAX_MOUNTS = 4096
"""Lines of a mountinfo that are looked at; the root's is among the first."""


def mount_of(fd: int) -> int:
    """Number of the mount that *fd* is open on, in its mount namespace (proc_pid_fdinfo(5)).

    Raises:
        OSError: /proc does not tell.
    """
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "mnt_id":
            return int(value)
    raise OSError(f"/proc/self/fdinfo/{fd} has no mnt_id")


def mounted_at(process: str, mount: int) -> tuple[str, str] | None:
    """Device and directory of the mount that has the number *mount* (proc_pid_mountinfo(5)), as
    ``/proc/PID``, *process*, sees it; None when it does not see it, or may not be read.

    Raises:
        HostReadError: It cannot be known.
    """
    try:
        with Path(process, "mountinfo").open(encoding="utf-8", errors="surrogateescape") as lines:
            for line in islice(lines, MAX_MOUNTS):
                number, _, device, directory = line.split(" ", 4)[:4]
                if int(number) == mount:
                    return device, directory
    except OSError as error:
        require_absent(f"{process}/mountinfo", error, denied=True)
    except ValueError:
        pass
    return None


def root_mount(process: str) -> tuple[str, str] | None:
    """Device and directory of the root of ``/proc/PID``, *process*; None as above.

    Raises:
        HostReadError: It cannot be known.
        OSError: /proc does not tell the mount of a descriptor.
    """
    try:
        fd = os.open(f"{process}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        require_absent(f"{process}/root", error, denied=True)
        return None
    try:
        return mounted_at(process, mount_of(fd))
    finally:
        os.close(fd)
