"""conmon, the monitor that podman and CRI-O run above a container: what its arguments tell."""

from __future__ import annotations

import itertools
import os

from ig_py.containers.model import text
from ig_py.containers.speakers import NOBODY, Speaker, arguments
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
    """A conmon's container, and whose word that is; all empty for no conmon."""

    container_id: str = ""
    name: str = ""
    bundle: str = ""
    speaker: Speaker = NOBODY


def conmon_of(view: HostView, pid: int, owner: int | None) -> Conmon:
    """The arguments of *pid*; empty when it is no conmon, or is not of a speaker who may speak of
    containers of *owner*."""
    words, speaker = arguments(view, pid)
    if not words or os.path.basename(words[0]) != "conmon":  # noqa: PTH119 (no path of ours)
        return Conmon()
    if not speaker.may_speak_of(owner):
        return Conmon()
    given: dict[str, str] = {}
    for word, value in itertools.pairwise(words):
        if word in _OPTIONS:
            given.setdefault(_OPTIONS[word], text(value))
    return Conmon(given.get("id", ""), given.get("name", ""), given.get("bundle", ""), speaker)


def conmon_above(view: HostView, pid: int, owner: int | None) -> Conmon:
    """The conmon above an init: its parent, or while the container starts its parent's parent."""
    for _ in range(MONITOR_LEVELS):
        parent = view.status(pid).get("PPid", "")
        if not parent.isdecimal() or parent == "0":
            break
        pid = int(parent)
        if (conmon := conmon_of(view, pid, owner)).container_id:
            return conmon
    return Conmon()
