"""What the processes that create a container were told about it: its runtime, its monitor.

A runtime's command line names the bundle (OCI runtime command line interface, ``--bundle``), the
conmon above it the name that podman gave the container.
"""

from __future__ import annotations

from ig_py.containers.conmon import MONITOR_LEVELS, conmon_of
from ig_py.containers.model import text
from ig_py.containers.speakers import Speaker, arguments
from ig_py.host.credentials import credentials
from ig_py.host.files import read_text
from ig_py.host.proc import HostView
from ig_py.records import dataclass

NEAR_PIDS = 64
"""How many of the newest processes may be the runtime that creates a container."""
MAX_BUNDLE = 4096


@dataclass(frozen=True, slots=True)
class Creation:
    """Empty where nothing was seen of it."""

    runtime: str = ""
    name: str = ""
    bundle: str = ""


def creation_of(
    view: HostView, container_id: str, runtime: str, owner: int | None = None
) -> Creation:
    """What the processes that create the container now were told; those of the host's root, or of
    the user *owner* in the mount namespace of the host."""
    bundle = ""
    for pid in _newest(view):
        if container_id not in view.read(pid, "cmdline").split("\0"):
            continue
        words, speaker = arguments(view, pid)
        if container_id not in words or not _is_heard(view, pid, speaker, owner):
            continue
        bundle = bundle or _bundle(words)
        if (conmon := conmon_of(view, pid, owner)).container_id == container_id:
            return Creation(runtime, conmon.name, conmon.bundle or bundle)
    return Creation(runtime, "", bundle)


def _is_heard(view: HostView, pid: int, speaker: Speaker, owner: int | None) -> bool:
    if not speaker.may_speak_of(owner):
        return False
    # A user's id in a container may be that of another person than on the host.
    return speaker.is_root or _comes_from_host(view, pid)


def _comes_from_host(view: HostView, pid: int) -> bool:
    """Whether the process, or the first of its ancestors that is in no user namespace, sees the
    host's files: podman begins there, and goes on in a user namespace of its own."""
    for _ in range(MONITOR_LEVELS):
        facts = credentials(view.proc, pid)
        if facts is None:
            return False
        if facts.first:
            return facts.mount_ns == view.host_mntns
        parent = view.status(pid).get("PPid", "")
        if not parent.isdecimal() or parent == "0":
            return False
        pid = int(parent)
    return False


def _newest(view: HostView) -> list[int]:
    """The processes that were made last, the latest first."""
    last = read_text(f"{view.proc}/loadavg").split()[-1:]
    latest = int(last[0]) if last and last[0].isdecimal() else 0
    # Pids above the latest are older than it: pids begin anew after the highest one.
    return sorted(view.pids(), key=lambda pid: (pid > latest, -pid))[:NEAR_PIDS]


def _bundle(words: list[str]) -> str:
    for index, word in enumerate(words):
        if word in ("--bundle", "-b") and words[index + 1 :]:
            return text(words[index + 1], MAX_BUNDLE)
        if word.startswith("--bundle="):
            return text(word.partition("=")[2], MAX_BUNDLE)
    return ""
