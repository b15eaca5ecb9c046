"""Which process is a container's init, and of which container a process is the init.

Both are told by processes' namespaces and control groups alone (namespaces(7), cgroups(7)).
"""

from __future__ import annotations

import os
import re

from ig_py.containers.conmon import conmon_of
from ig_py.containers.model import valid_id
from ig_py.containers.speakers import NOBODY, Speaker, speaker_of_user
from ig_py.host.files import read_text
from ig_py.host.proc import HostView

MAX_PROCESSES = 1024
"""A cgroup with more processes is no starting container: ask the engine."""
STAGES = ("runc:[0:", "runc:[1:")
"""runc's processes on the way to init: they enter the cgroup first, and end."""
UNKNOWN = "unknown"
"""In place of an engine's name."""

_SCOPES = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "runc": "runc",
    "crun": "crun",
}
"""Prefix of a systemd scope → the engine or runtime that made it."""
_LEAF = re.compile(rf"(?:({'|'.join(_SCOPES)})[-:])?([^/]+?)(?:\.scope)?")
_NOT_CONTAINERS = (".service", ".slice", ".socket", ".mount")


def init_of_cgroup(view: HostView, directory: str) -> int | None:
    """The container's init among the processes of a cgroup; None when there is none yet, or more
    than one process could be it.

    Init is the process whose parent is outside of the cgroup and in another mount namespace, and
    which is pid 1 of its own pid namespace or, where that is shared, the only such process.

    Raises:
        HostReadError: The control group or its processes cannot be read.
    """
    procs = read_text(f"{directory}/cgroup.procs").split()
    if len(procs) > MAX_PROCESSES:
        return None
    members = set(procs)
    candidates = []
    for pid in procs:
        status = view.status(int(pid))
        parent = status.get("PPid", "")
        if not parent or parent in members or status.get("Name", "").startswith(STAGES):
            continue
        mntns = view.namespace(int(pid), "mnt")
        outside = view.namespace(int(parent), "mnt") or view.namespace(os.getpid(), "mnt")
        if mntns is None or mntns == outside:
            continue
        levels = status.get("NSpid", "").split()
        if len(levels) > 1 and levels[-1] == "1":
            return int(pid)
        candidates.append(int(pid))
    return candidates[0] if len(candidates) == 1 else None


def container_of_init(view: HostView, pid: int) -> tuple[str, Speaker]:
    """The id of the container whose init *pid* is, and whose word that is; "" when it is none.

    Init is the first process of its own pid and mount namespaces, in a control group of its own,
    whose last part is the id. A user's podman may have no control groups: there the conmon above
    it tells.

    Raises:
        HostReadError: The process cannot be read.
    """
    status = view.status(pid)
    levels = status.get("NSpid", "").split()
    parent = status.get("PPid", "")
    if len(levels) < 2 or levels[-1] != "1" or not parent.isdecimal():
        return "", NOBODY
    mntns = view.namespace(pid, "mnt")
    if mntns is None or mntns == view.namespace(int(parent), "mnt"):
        return "", NOBODY
    conmon = conmon_of(view, int(parent), view.owner_of(pid))
    if valid_id(conmon.container_id):
        return conmon.container_id, conmon.speaker
    leaf = _leaf(view, pid)
    if not leaf or leaf == _leaf(view, int(parent)) or leaf.endswith(_NOT_CONTAINERS):
        return "", NOBODY
    match = _LEAF.fullmatch(leaf)
    if not match or not valid_id(match[2]):
        return "", NOBODY
    return match[2], speaker_of_user(view.cgroup_maker(_path(view, pid)))


def engine_of_cgroup(view: HostView, pid: int) -> str:
    """The engine or runtime that the cgroup of *pid* names, else :data:`UNKNOWN`."""
    match = _LEAF.fullmatch(_leaf(view, pid))
    return _SCOPES.get(match[1] or "", UNKNOWN) if match else UNKNOWN


def _leaf(view: HostView, pid: int) -> str:
    """The last part of a process's control group path."""
    return _path(view, pid).rpartition("/")[2]


def _path(view: HostView, pid: int) -> str:
    """A process's control group path; the longest one, where neither the unified hierarchy nor
    systemd's has any."""
    cgroups = view.cgroups(pid)
    paths = (line.split(":", 2)[-1] for line in cgroups.raw.splitlines())
    return cgroups.v2 or cgroups.v1 or max(paths, key=len, default="")
