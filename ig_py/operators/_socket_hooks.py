"""Attaching the programs that record sockets' owners (core/sockets, docs/sockets.md)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ig_py.errors import IgPyError
from ig_py.host.files import inode, is_there
from ig_py.host.private_mount import with_mount
from ig_py.host.proc import HostView
from ig_py.host.tracefs import with_tracefs

if TYPE_CHECKING:
    from ig_py._core import Object

log = logging.getLogger(__name__)

_TRAMPOLINES = (
    *("sockets_bind4", "sockets_bind6", "sockets_listen"),
    *("sockets_tcp_connect", "sockets_udp_connect"),
    *("sockets_udp_send4", "sockets_udp_send6"),
    "sockets_release",
)
_OF_CGROUPS = (
    *("sockets_bound4", "sockets_bound6"),
    *("sockets_sent4", "sockets_sent6"),
    *("sockets_connect4", "sockets_connect6"),
    *("sockets_of_tcp", "sockets_released"),
)
_CONNECTED = "sockets_connected"
_CONNECTED_BY_RING = "sockets_ring_entered"
_ROOT_INODE = 1
"""Inode number of the root of a control group hierarchy (kernfs); other groups have larger ones."""


def choose(obj: Object, trampolines: bool) -> None:
    """Choose the programs to load: trampolines, or those of control groups and calls."""
    for program in _TRAMPOLINES:
        obj.set_autoload(program, trampolines)
    for program in (*_OF_CGROUPS, _CONNECTED, _CONNECTED_BY_RING):
        obj.set_autoload(program, not trampolines)


def attach_trampolines(obj: Object) -> None:
    """Attach the trampolines.

    Raises:
        CoreError: The kernel refuses one.
    """
    for program in _TRAMPOLINES:
        obj.attach(program)


def attach_to_cgroups(obj: Object, view: HostView) -> str:
    """Attach the programs of control groups and calls.

    Returns:
        Why some sockets will be missed; "" when none will be.
    """
    from ig_py._core import CoreError

    try:
        if not _to_root(obj, view):
            return "the root control group is not visible from here (another cgroup namespace)"
        with_tracefs(lambda: _to_calls(obj))
    except CoreError as error:
        return error.message
    except IgPyError as error:
        return str(error)
    return ""


def _to_root(obj: Object, view: HostView) -> bool:
    mount = view.cgroup2_mount()
    if mount and _is_root(mount):
        return _to_cgroup(obj, mount)
    place = Path(view.root) / "sys/fs/cgroup"
    return with_mount("cgroup2", place, lambda: _to_cgroup(obj, str(place)), "finding sockets")


def _to_cgroup(obj: Object, path: str) -> bool:
    """Attach to the group at *path*; False when it is not the root: processes would be missed."""
    if not _is_root(path):
        return False
    for program in _OF_CGROUPS:
        obj.attach_cgroup(program, path)
    return True


def _is_root(path: str) -> bool:
    return inode(path) == _ROOT_INODE and is_there(f"{path}/cgroup.controllers")


def _to_calls(obj: Object) -> None:
    from ig_py._core import CoreError

    obj.attach(_CONNECTED)
    try:
        obj.attach(_CONNECTED_BY_RING)
    except CoreError as error:
        log.debug("no io_uring: %s", error.message)
