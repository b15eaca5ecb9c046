"""conmon, the monitor that podman and CRI-O run above a container: what its arguments tell."""

from __future__ import annotations

import itertools
import os

from ig_py.containers.model import text
from ig_py.host.proc import HostView
from ig_py.records import dataclass

MONITOR_LEVELS = 6
"""Ancestors of an init that may be its monitor."""

_OPTIONS = {
    **dict.fromkeys(("-n", "--name"), "name"),
    **dict.fromkeys(("-c", "--cid"), "id"),
    **dict.fromkeys(("-b", "--bundle"), "bundle"),
}


@dataclass(frozen=True, slots=True)
class Conmon:
    """A conmon's container; all empty for no conmon."""

    container_id: str = ""
    name: str = ""
    bundle: str = ""


def conmon_of(view: HostView, pid: int) -> Conmon:
    """The arguments of *pid*; empty when it is no conmon."""
    words = view.read(pid, "cmdline").split("\0")
    if os.path.basename(words[0]) != "conmon":  # noqa: PTH119 (text, not a path of ours)
        return Conmon()
    given: dict[str, str] = {}
    for word, value in itertools.pairwise(words):
        if word in _OPTIONS:
            given.setdefault(_OPTIONS[word], text(value))
    return Conmon(given.get("id", ""), given.get("name", ""), given.get("bundle", ""))


def conmon_above(view: HostView, pid: int) -> Conmon:
    """The conmon above an init: its parent, or while the container starts its parent's parent."""
    for _ in range(MONITOR_LEVELS):
        parent = view.status(pid).get("PPid", "")
        if not parent.isdecimal() or parent == "0":
            break
        pid = int(parent)
        if (conmon := conmon_of(view, pid)).container_id:
            return conmon
    return Conmon()
