"""Which container a new namespace is of, by a process's cgroup and its parents' command lines.

Facts: engines name a container's cgroup by its id (64 hexadecimal digits), with systemd as
``<engine>-<id>.scope``; runtimes by the OCI command line are called as ``runc … create|run …
<id>`` and are init's parent while it starts.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from ig_py.containers.model import text, valid_id
from ig_py.containers.speakers import (
    KERNEL,
    Claim,
    Rank,
    Speaker,
    arguments,
    claim,
    speaker_of_user,
)
from ig_py.host.proc import HostView
from ig_py.records import dataclass, replace

ENGINE_CGROUP = re.compile(
    r"(?:(?!crio-conmon-|libpod-conmon-)[a-z-]+-)?([0-9a-f]{64})(?:\.scope)?"
)
RUNTIMES = ("runc", "crun", "youki", "runsc", "kata-runtime")
"""Programs with the OCI command line; others are known by their --bundle."""
STAGE = re.compile(r"(runc):\[")
"""What runc calls its processes that become the container's init: in its cgroup already."""
COPY = "crun"
COPIES = (COPY, "memfd:crun_clon")
"""Name of crun's init until it executes a program: crun may run from a copy of itself in memory.
With version 2 of control groups the init is made in its own cgroup, else it is moved there."""
ENGINES = ("containerd-shim", "conmon", "dockerd", "containerd", "podman", "crio", "docker")
"""Names, or their beginnings, of the programs that start runtimes for an engine."""
MAX_ANCESTORS = 6
MAX_ARGUMENTS = 256

_WITH_VALUE = frozenset(
    [
        *("--root", "--log", "--log-format", "--criu", "--rootless", "--debug-log"),
        *("--cgroup-manager", "--console-socket", "--pid-file", "--preserve-fds"),
        *("-b", "--bundle", "-f", "--config"),
    ]
)
"""Options of runtimes whose value is the next argument."""


@dataclass(frozen=True, slots=True)
class Found:
    """A container. *engine*: an engine started it, and can tell more than its id. *claim*: on what
    that rests."""

    container_id: str
    runtime: str = ""
    bundle: str = ""
    engine: bool = False
    claim: Claim = KERNEL


def engine_id(path: str) -> str:
    """The container that a cgroup path names, the innermost one; "" for none."""
    for name in reversed(path.split("/")):
        if match := ENGINE_CGROUP.fullmatch(name):
            return match[1]
    return ""


def identify(
    view: HostView,
    pid: int,
    ppid: int,
    comm: str,
    cgroup: str,
    *,
    owner: int | None = None,
    executed: bool = False,
    moved: bool = False,
) -> Found | None:
    """The container of *pid*, a process of a new namespace; None when it seems to be of none.

    *cgroup* is its path and *comm* its name as the kernel told them; the process may have ended
    since. *owner*: the user who made the namespace, in a user namespace of their own; None for the
    host's root. *executed*: a program was executed in the namespace. *moved*: its cgroup is its
    own, not that of the process that made it.

    Raises:
        HostReadError: /proc or the control groups cannot be read.
    """
    for path in (cgroup, *_cgroups(view, pid)):
        container_id = engine_id(path)
        if container_id and (claimed := _by_cgroup(view, path, owner)):
            return Found(container_id, engine=True, claim=claimed)
    # crun's init is a copy of crun until it executes a program. But a process that executes a
    # runtime in a namespace of its own (unshare -m crun run) is the runtime: the namespace of its
    # container is another one.
    copy = not executed and view.read(pid, "comm").rstrip("\n") == comm
    born = view.born(pid)
    for ancestor, its in (*([(pid, born)] if copy else []), *_ancestors(view, ppid, born)):
        if from_command(view.read(ancestor, "cmdline").split("\0")[:MAX_ARGUMENTS]) is None:
            continue
        words, speaker = arguments(view, ancestor)
        found = from_command(words[:MAX_ARGUMENTS])
        # Its number may be another process's since, perhaps of the runtime of another container.
        if found and _speaks(speaker, owner) and view.born(ancestor) == its:
            claimed = claim(speaker, Rank.ROOT_COMMAND)
            return _with_engine(view, ancestor, replace(found, claim=claimed))
    # The runtime has ended already; the cgroup is named by the container's id.
    match = STAGE.match(comm)
    runtime = match[1] if match else COPY if moved and comm in COPIES else ""
    if runtime:
        name = PurePosixPath(cgroup).name.removesuffix(".scope").removeprefix(f"{runtime}-")
        if valid_id(name) and (claimed := _by_cgroup(view, cgroup, owner)):
            return Found(name, runtime, claim=claimed)
    return None


def _speaks(speaker: Speaker, owner: int | None) -> bool:
    """Whether what *speaker* says of a container is about a namespace of *owner*.

    What root's cgroups and runtimes say is not about the namespaces that users make: these are
    inside of root's container, or of a service. Root's own engines make user namespaces as root.
    """
    return not owner if speaker.is_root else speaker.may_speak_of(owner)


def _by_cgroup(view: HostView, path: str, owner: int | None) -> Claim | None:
    """The claim of the user who named the cgroup *path*; None when it does not count."""
    speaker = speaker_of_user(view.cgroup_maker(path))
    if not _speaks(speaker, owner):
        return None
    if owner is not None and speaker.is_root and _is_nested(path):
        # Root inside of a container made both, unless that container has rights over the host.
        return None
    return claim(speaker, Rank.KERNEL)


def _is_nested(path: str) -> bool:
    return sum(ENGINE_CGROUP.fullmatch(name) is not None for name in path.split("/")) > 1


def from_command(argv: list[str]) -> Found | None:
    """A runtime's command line that makes a container."""
    program = PurePosixPath(argv[0]).name if argv else ""
    plain, bundle = _plain_arguments(argv)
    if len(plain) < 2 or plain[0] not in ("create", "run"):
        return None
    if program not in RUNTIMES and not bundle:
        return None
    if not valid_id(plain[-1]):
        return None
    return Found(plain[-1], text(program), text(bundle))


def started_by(argv: list[str]) -> str:
    """The container whose first program a runtime's command line lets begin; "" for none."""
    plain, _ = _plain_arguments(argv)
    # Before the command may be a value of an option that is not known here.
    return plain[-1] if "start" in plain[:-1] and valid_id(plain[-1]) else ""


def _plain_arguments(argv: list[str]) -> tuple[list[str], str]:
    """The command and its arguments, without options, and the bundle ("" for none)."""
    arguments = [a for a in argv[1:] if a]
    bundle, plain, skip = "", [], False
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        if skip:
            skip = False
            if previous in ("-b", "--bundle"):
                bundle = argument
        elif argument.startswith("--bundle="):
            bundle = argument.partition("=")[2]
        elif argument in _WITH_VALUE:
            skip = True
        elif not argument.startswith("-"):
            plain.append(argument)
    return plain, bundle


def _with_engine(view: HostView, runtime_pid: int, found: Found) -> Found:
    parent = view.status(runtime_pid).get("PPid", "")
    name = view.status(int(parent)).get("Name", "") if parent.isdecimal() else ""
    return replace(found, engine=True) if name.startswith(ENGINES) else found


def _cgroups(view: HostView, pid: int) -> list[str]:
    lines = view.cgroups(pid).raw.splitlines() if pid else []
    return [line.split(":", 2)[-1] for line in lines]


def _ancestors(view: HostView, ppid: int, child_born: int) -> list[tuple[int, int]]:
    """The pids of a process's ancestors from its parent *ppid* on, and when each began
    (:meth:`HostView.born`). *child_born*: when the process began; 0: it has ended.

    No process began before its parent: a number of a later one is another process's by now.
    """
    found: list[tuple[int, int]] = []
    while ppid > 1 and len(found) < MAX_ANCESTORS:
        born = view.born(ppid)
        if child_born and born > child_born:
            break
        found.append((ppid, born))
        parent = view.status(ppid).get("PPid", "0")
        ppid, child_born = int(parent) if parent.isdecimal() else 0, born
    return found
