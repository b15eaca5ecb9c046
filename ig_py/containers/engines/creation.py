"""What the processes that create a container were told about it: its runtime, its monitor.

A runtime's command line names the bundle (OCI runtime command line interface, ``--bundle``), the
conmon above it the name that podman gave the container.
"""

from __future__ import annotations

from ig_py.containers.conmon import conmon_of
from ig_py.containers.model import text
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


def creation_of(view: HostView, container_id: str, runtime: str) -> Creation:
    """What the processes that create the container now were told."""
    bundle = ""
    for pid in _newest(view):
        words = view.read(pid, "cmdline").split("\0")
        if container_id not in words:
            continue
        bundle = bundle or _bundle(words)
        if (conmon := conmon_of(view, pid)).container_id == container_id:
            return Creation(runtime, conmon.name, conmon.bundle or bundle)
    return Creation(runtime, "", bundle)


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
