"""The speaker of a statement about a container, and how much the statement counts.

Every user can write a state file below their /run/user, listen at a socket there, call a program
``conmon``, or name a control group that was delegated to them. So each statement "process P is the
init of container X, which is called N" carries its speaker, and counts only for processes that are
the speaker's: what a user says counts for processes whose mount namespace that user has made (in a
user namespace of their own), what the host's root says for all. Of two statements that exclude each
other the one of the higher :class:`Rank` counts; of equal ones the earlier.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
import socket
import stat
import sys
from pathlib import Path

from ig_py.host.credentials import (
    FIRST_USER_NAMESPACE,
    Credentials,
    credentials_of,
    first_user_namespace,
)
from ig_py.host.files import held, read_text
from ig_py.host.proc import HostView
from ig_py.records import dataclass

OVERFLOW_UID = 65534
"""What a user namespace shows for users that it does not have (user_namespaces(7))."""
CONNECT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """*user*: user id; None for the host's root, and for the user who runs ig-py."""

    user: int | None = None

    def __str__(self) -> str:
        if self.user is None:
            return "root"
        return "an unprivileged process" if self.user < 0 else f"user {self.user}"

    @property
    def is_root(self) -> bool:
        return self.user is None

    def may_speak_of(self, owner: int | None) -> bool:
        """Whether a statement counts for processes of *owner* (``Process.owner``)."""
        return self.is_root or (self.user == owner and self != NOBODY)


ROOT = Speaker()
NOBODY = Speaker(-1)
"""Of whom it is not known, or who has no processes of their own: user id 0 in a container without
rights over the host."""


class Rank(enum.IntEnum):
    """What a statement rests on; the higher one counts."""

    USER_FILES = 1
    """State files, command lines and control groups of a user."""
    USER_ENGINE = 2
    ROOT_COMMAND = 3
    ROOT_STATE = 4
    ROOT_ENGINE = 5
    KERNEL = 6
    """The kernel's word that a process is in a control group that root has named."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who says which process is a container's init, or what the container is."""

    speaker: Speaker
    rank: Rank


KERNEL = Claim(ROOT, Rank.KERNEL)
ROOT_ENGINE = Claim(ROOT, Rank.ROOT_ENGINE)
ROOT_STATE = Claim(ROOT, Rank.ROOT_STATE)


def claim(speaker: Speaker, rank: Rank) -> Claim:
    """*rank* is what the same statement of root's would have."""
    if speaker.is_root:
        return Claim(speaker, rank)
    return Claim(speaker, Rank.USER_ENGINE if rank is Rank.ROOT_ENGINE else Rank.USER_FILES)


def is_trusted(uid: int) -> bool:
    """Whether files of that user are root's, or of the user who runs ig-py."""
    if uid in (0, os.geteuid()):
        return True
    # In a user namespace of ours the host's root has the overflow id, as all other users have.
    return uid == OVERFLOW_UID and first_user_namespace() != FIRST_USER_NAMESPACE


def is_user_id(name: str) -> bool:
    """Whether a name is a user id as directories below /run/user are called."""
    return re.fullmatch(r"0|[1-9][0-9]{0,9}", name) is not None


def owners_for(owner: int | None) -> set[int]:
    """The users whose files count for processes of *owner*."""
    if owner:
        return {owner}
    trusted = {0, os.geteuid()}
    return trusted | ({OVERFLOW_UID} if is_trusted(OVERFLOW_UID) else set())


def speaker_of_user(uid: int) -> Speaker:
    """The speaker to whom a file with that owner belongs."""
    return ROOT if is_trusted(uid) else Speaker(uid)


def speaker_of_process(facts: Credentials | None) -> Speaker:
    """Whose the arguments of a process are."""
    if facts is None or facts.secure:
        return NOBODY
    if facts.administers_host:
        return ROOT
    users = set(facts.uids)
    if len(users) != 1 or users == {0}:
        return NOBODY
    if users == {os.geteuid()} and facts.first:
        return ROOT
    return Speaker(*users)


def arguments(view: HostView, pid: int) -> tuple[list[str], Speaker]:
    """The command line of a process, and whose it is; [] when it ended or changed meanwhile."""
    with held(f"{view.proc}/{pid}") as process:
        words = read_text(f"{process}/cmdline")
        speaker = speaker_of_process(credentials_of(process))
        # In between, the process may have executed another program with other rights.
        if not words or read_text(f"{process}/cmdline") != words:
            return [], NOBODY
    return words.split("\0"), speaker


def speaker_of_path(path: str) -> Speaker:
    """Who can have put there what has that path: the owner of it and of all directories on the
    way, if these are root or one user."""
    place = Path(path)
    with contextlib.suppress(OSError):
        place = place.resolve()
    found = ROOT
    for each in (*reversed(place.parents), place):
        try:
            facts = each.lstat()
        except OSError:
            return NOBODY
        directory = stat.S_ISDIR(facts.st_mode)
        if directory and facts.st_mode & stat.S_IWOTH and not facts.st_mode & stat.S_ISVTX:
            return NOBODY
        owner = speaker_of_user(facts.st_uid)
        if not owner.is_root and not found.is_root and owner != found:
            return NOBODY
        found = found if owner.is_root else owner
    return found


def listener_of_socket(path: str) -> tuple[Speaker, int]:
    """The user of the process that listens at *path* and of the path, if these are the same; and
    the process, 0 where its pid is of another pid namespace.

    Raises:
        OSError: No process does, or it accepts no connection in :data:`CONNECT_SECONDS`.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_SECONDS)
        probe.connect(path)
        # struct ucred: pid, uid, gid (unix(7)).
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    served = speaker_of_user(int.from_bytes(raw[4:8], sys.byteorder))
    placed = speaker_of_path(path)
    # Root may let a user's service listen at a path of root's, not the other way round.
    speaker = served if placed.is_root or served == placed else NOBODY
    return speaker, int.from_bytes(raw[:4], sys.byteorder)
