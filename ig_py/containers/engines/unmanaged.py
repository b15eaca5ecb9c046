"""Containers that no engine tells of, and a second opinion about those that engines do.

Two sources: the state that runc and crun keep (``state_dirs``), and the
processes there are, looked through every few seconds for inits of containers
by their namespaces and control groups. What an engine that answers will
describe is left to it for a moment; what nobody describes is named by its id.
"""

from __future__ import annotations

import re
import threading
from typing import Protocol

from ig_py.containers import oci_config as oci
from ig_py.containers.model import Container, RuntimeInfo, text, valid_id
from ig_py.containers.runtime_state import State
from ig_py.containers.sources import Source
from ig_py.containers.state_dirs import StateDirs
from ig_py.host.files import read_text
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor
from ig_py.records import dataclass

POLL_SECONDS = 5.0
"""How often new processes are looked through; one unknown twice is reported."""
FIRST_POLL = 0.3
"""How long engines have to tell first of what runs at the start."""
NEAR_PIDS = 64
"""How many of the newest processes may be the runtime that begins a container."""
MONITOR_LEVELS = 6
UNKNOWN = "unknown"
MONITORED = ("runc", "crun")
"""Where containers of engines with a monitor are, podman's and CRI-O's."""
MAX_BIRTHS = 4096

_SCOPES = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "runc": "runc",
    "crun": "crun",
}
_LEAF = re.compile(rf"(?:({'|'.join(_SCOPES)})[-:])?([^/]+?)(?:\.scope)?")
_NOT_CONTAINERS = (".service", ".slice", ".socket", ".mount")


@dataclass(frozen=True, slots=True)
class _Birth:
    """What was seen when a runtime began to make a container; empty for nothing."""

    runtime: str = ""
    name: str = ""
    bundle: str = ""


class Owner(Protocol):
    """The discovery, as seen from here."""

    def asked(self, runtime: str) -> bool:
        """Whether an engine of that name is to describe its own."""

    def asking(self, runtime: str) -> bool:
        """Whether it has not answered yet, but may."""

    def restricted(self, runtime: str) -> bool:
        """Whether the user wants some of that engine's containers only."""

    def hint(self, container_id: str, pid: int, source: Source) -> None:
        """A container's init, for whoever describes it."""

    def known(self, container_id: str) -> bool:
        """Whether it is in the collection, its process alive, or to be ignored."""

    def ignore(self, container_id: str) -> None:
        """It is only what holds a pod together."""

    def nobodys(self, container: Container, pid: int, source: Source) -> None:
        """A running container that no engine describes; what one said of it counts more."""

    def announce(self, container: Container) -> None:
        """A container that is about to be made."""


class Alone:
    """Works in the reactor's thread. *describe*: report what no engine tells of, too;
    *announce*: also containers that are about to be made, with their bundles."""

    def __init__(
        self, view: HostView, reactor: Reactor, owner: Owner, *, describe: bool, announce: bool
    ) -> None:
        self._view = view
        self._reactor = reactor
        self._owner = owner
        self._describe = describe
        self._announce = announce
        self._dirs = StateDirs(view, reactor, self)
        self._scanned = threading.Event()
        self._processes: set[int] = set()
        self._suspects: dict[int, str] = {}
        self._births: dict[str, _Birth] = {}
        self.late = 0
        """Containers that only the look through all processes found."""

    def status(self) -> tuple[bool, str]:
        """Whether the runtimes' state is watched; where, or why not."""
        return self._dirs.status()

    def start(self) -> None:
        self._dirs.start(self._begin)

    def wait_scanned(self, seconds: float) -> bool:
        """Wait until what was there at the start is reported; False when that took longer."""
        return self._scanned.wait(seconds)

    def stop(self) -> None:
        """After the reactor stopped."""
        self._dirs.stop()

    # What the state tells.

    def began(self, container_id: str, runtime: str) -> None:
        # Engines with a monitor are asked about nothing: what it was told has the name.
        if not self._announce and runtime not in MONITORED:
            return
        birth = self._birth(container_id, runtime)
        while len(self._births) >= MAX_BIRTHS:
            del self._births[next(iter(self._births))]
        self._births[container_id] = birth
        if self._announce:
            config = oci.read_bundle(self._view, birth.bundle) if birth.bundle else ""
            info = RuntimeInfo(container_id=container_id)
            self._owner.announce(Container(runtime=info, bundle=birth.bundle, oci_config=config))

    def found(self, container_id: str, runtime: str, state: State) -> None:
        self._report(container_id, runtime, state.pid, state.bundle)

    def _birth(self, container_id: str, runtime: str) -> _Birth:
        """What the processes that begin a container were told about it: the runtime, and above
        it perhaps a monitor."""
        name = bundle = ""
        for pid in self._newest():
            words = self._view.read(pid, "cmdline").split("\0")
            if container_id not in words:
                continue
            bundle = bundle or _bundle(words)
            if (conmon := oci.conmon_of(self._view, pid)).container_id == container_id:
                return _Birth(runtime, conmon.name, conmon.bundle or bundle)
        return _Birth(runtime, name, bundle)

    def _newest(self) -> list[int]:
        """The processes that were made last, the latest first."""
        last = read_text(f"{self._view.proc}/loadavg").split()[-1:]
        latest = int(last[0]) if last and last[0].isdecimal() else 0
        # Numbers above the latest are from before they began anew.
        return sorted(self._view.pids(), key=lambda pid: (pid > latest, -pid))[:NEAR_PIDS]

    def _report(self, container_id: str, runtime: str, pid: int, bundle: str) -> None:
        if self._owner.known(container_id):
            return
        container = self.described(container_id, runtime, pid, bundle)
        if container is None:
            self._owner.ignore(container_id)
            return
        name = container.runtime.name
        asked = self._owner.asked(name)
        # What its monitor says of a container is as good as what the engine would say.
        named = container.runtime.container_name != container_id
        if (named and asked) or (self._describe and (named or not asked)):
            self._owner.nobodys(container, pid, Source.STATE)
        else:
            self._suspect(container_id, pid, Source.STATE)

    def described(self, container_id: str, runtime: str, pid: int, bundle: str) -> Container | None:
        """A container by what its process and files tell; None for a pod's sandbox."""
        birth = self._births.get(container_id, _Birth())
        conmon = self._monitor(pid)
        own = conmon.container_id == container_id
        if not own and not birth.name and runtime in ("", *MONITORED):
            # Its beginning may be news yet to come, and its init ended already.
            birth = self._birth(container_id, runtime or birth.runtime)
        container = Container(
            runtime=RuntimeInfo(
                name=runtime or birth.runtime,
                container_id=container_id,
                container_name=(conmon.name if own else birth.name) or container_id,
            ),
            bundle=bundle or (conmon.bundle if own else birth.bundle),
        )
        notes = oci.notes_of(oci.read_config(self._view, pid, container_id, container.bundle))
        return oci.annotated(container, notes)

    def _monitor(self, pid: int) -> oci.Conmon:
        """The conmon above *pid*: its parent, or while it starts its parent's parent."""
        for _ in range(MONITOR_LEVELS):
            parent = self._view.status(pid).get("PPid", "")
            if not parent.isdecimal() or parent == "0":
                break
            pid = int(parent)
            if (conmon := oci.conmon_of(self._view, pid)).container_id:
                return conmon
        return oci.Conmon()

    # What the processes tell.

    def _begin(self) -> None:
        self._look_through()
        if self._suspects:
            self._reactor.later(FIRST_POLL, self._poll)
        else:
            self._scanned.set()
            self._reactor.later(POLL_SECONDS, self._poll)

    def _poll(self) -> None:
        self._look_through()
        self._scanned.set()
        self._reactor.later(POLL_SECONDS, self._poll)

    def _look_through(self) -> None:
        if not self._view.same_pidns:
            return
        now = set(self._view.pids())
        suspects, self._suspects = self._suspects, {}
        for pid, container_id in suspects.items():
            if pid in now and not self._owner.known(container_id):
                self._unclaimed(container_id, pid)
        for pid in now - self._processes:
            container_id = "" if pid in suspects else self._init(pid)
            if container_id and not self._owner.known(container_id):
                self._suspect(container_id, pid, Source.PROCESSES)
        self._processes = now

    def _suspect(self, container_id: str, pid: int, source: Source) -> None:
        """Its engine is to tell; if it has not by the next time, nobody will."""
        self._suspects[pid] = container_id
        self._owner.hint(container_id, pid, source)

    def _unclaimed(self, container_id: str, pid: int) -> None:
        runtime = self._scope(pid)
        container = self.described(container_id, runtime, pid, "")
        if container is None:
            self._owner.ignore(container_id)
            return
        runtime = container.runtime.name
        if self._owner.asking(runtime):
            self._suspects[pid] = container_id
        elif self._describe and not self._owner.restricted(runtime):
            self.late += 1
            self._owner.nobodys(container, pid, Source.PROCESSES)

    def _init(self, pid: int) -> str:
        """The id of the container whose init *pid* is; "" when it is none.

        Init is the first process of its own pid and mount namespaces, in a control
        group of its own, whose last part is the id. A user's podman may have no
        control groups: there the monitor above it tells.
        """
        status = self._view.status(pid)
        levels = status.get("NSpid", "").split()
        parent = status.get("PPid", "")
        if len(levels) < 2 or levels[-1] != "1" or not parent.isdecimal():
            return ""
        mntns = self._view.namespace(pid, "mnt")
        if mntns is None or mntns == self._view.namespace(int(parent), "mnt"):
            return ""
        if valid_id(monitored := oci.conmon_of(self._view, int(parent)).container_id):
            return monitored
        leaf = self._leaf(pid)
        if not leaf or leaf == self._leaf(int(parent)) or leaf.endswith(_NOT_CONTAINERS):
            return ""
        match = _LEAF.fullmatch(leaf)
        return match[2] if match and valid_id(match[2]) else ""

    def _leaf(self, pid: int) -> str:
        cgroups = self._view.cgroups(pid)
        return (cgroups.v2 or cgroups.v1 or _any_path(cgroups.raw)).rpartition("/")[2]

    def _scope(self, pid: int) -> str:
        match = _LEAF.fullmatch(self._leaf(pid))
        return _SCOPES.get(match[1] or "", UNKNOWN) if match else UNKNOWN


def _any_path(raw: str) -> str:
    """The longest control group path, of any hierarchy."""
    return max((line.split(":", 2)[-1] for line in raw.splitlines()), key=len, default="")


def _bundle(words: list[str]) -> str:
    for index, word in enumerate(words):
        if word in ("--bundle", "-b") and words[index + 1 :]:
            return text(words[index + 1], 4096)
        if word.startswith("--bundle="):
            return text(word.partition("=")[2], 4096)
    return ""
