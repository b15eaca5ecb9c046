"""Roots of runtimes' state that are not at the usual places, learnt from engines and runtimes.

An engine with another directory for its state (``dockerd --exec-root``) tells of it when it is
asked (``engines.state_roots``), and executes its runtime with ``--root`` (OCI runtime command line
interface). Only what a process of the host's root says in the mount namespace of the host counts,
of a directory that nobody else can replace.
"""

from __future__ import annotations

import fnmatch
import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ig_py.containers.speakers import arguments, speaker_of_path
from ig_py.containers.state_dirs import ANY, BASE, ROOTS
from ig_py.host.proc import HostView
from ig_py.host.reactor import Reactor

log = logging.getLogger(__name__)

MAX_ROOTS = 64
MAX_ROOT = 4096
"""Characters of its path."""
SHIM = "containerd-shim"
"""What containerd starts runtimes by; one word after ``-namespace`` is the container's."""
DOCKER_NAMESPACE = "moby"
_TRIES = 8
_TRY_SECONDS = 0.001
"""The runtime makes its root after it was executed; pauses double."""


class LearntRoots:
    """Works in the reactor's thread. *watch* is called with a directory, whose containers it has
    (an engine or the runtime), the container that is being created there ("" for none), and the
    names that lead from it to the containers' directories (``StateDirs.watch``)."""

    def __init__(
        self,
        view: HostView,
        reactor: Reactor,
        watch: Callable[[str, str, str, tuple[str, ...]], None],
    ) -> None:
        self._view = view
        self._reactor = reactor
        self._watch = watch
        self._roots: set[str] = set()

    def executed(self, pid: int, container_id: str) -> None:
        """A runtime, the process *pid*, begins to create a container."""
        words, speaker = arguments(self._view, pid)
        root = state_root(words)
        if not root or not speaker.is_root or is_usual(root):
            return
        if self._sees_host_files(pid) and self._is_within_limit(root):
            self._found(root, self._owner(pid, words), container_id, 0)

    def told(self, root: str, runtime: str, pid: int) -> None:
        """An engine of root's says so: *root* as in ``engines.state_roots``, *runtime* the engine
        or the runtime, *pid* a process that has the engine's view of the files."""
        names = tuple(name for name in root.split("/") if name not in ("", "."))
        plain = names[:-1] if names[-1:] == (ANY,) else names
        if not root.startswith("/") or len(root) > MAX_ROOT or not plain or {"..", ANY} & {*plain}:
            return
        if is_usual(root) or not self._sees_host_files(pid) or not self._is_within_limit(root):
            return
        # What is not there yet is watched for, from the directory that is.
        place = next(
            index
            for index in range(len(plain), -1, -1)
            if Path(self._view.path(f"/{'/'.join(names[:index])}")).is_dir()
        )
        path = self._view.path(f"/{'/'.join(names[:place])}")
        if speaker_of_path(path).is_root:
            self._watch(path, runtime, "", names[place:])
        else:
            log.debug("the state of %s in %a is not watched: not root's alone", runtime, root)

    def _is_within_limit(self, root: str) -> bool:
        if root not in self._roots and len(self._roots) >= MAX_ROOTS:
            log.debug("the state of a runtime in %a is not watched: over %d", root, MAX_ROOTS)
            return False
        self._roots.add(root)
        return True

    def _sees_host_files(self, pid: int) -> bool:
        """Whether a path means the same to the process *pid* as on the host."""
        host = self._view.host_mntns
        if host is None and self._view.root == "/":
            # What process 1 is in may not be read; this process sees the host's files.
            host = self._view.namespace(os.getpid(), "mnt")
        return host is not None and self._view.namespace(pid, "mnt") == host

    def _found(self, root: str, runtime: str, container_id: str, tried: int) -> None:
        path = self._view.path(root)
        if Path(path).is_dir():
            if speaker_of_path(path).is_root:
                self._watch(path, runtime, container_id, ())
            else:
                log.debug("the state of a runtime in %a is not watched: not root's alone", root)
        elif tried < _TRIES:
            self._reactor.later(
                _TRY_SECONDS * 2**tried,
                lambda: self._found(root, runtime, container_id, tried + 1),
            )

    def _owner(self, pid: int, words: list[str]) -> str:
        """The engine that executes the runtime by a shim, else the runtime."""
        parent = self._view.status(pid).get("PPid", "")
        if parent.isdecimal():
            shim, speaker = arguments(self._view, int(parent))
            if speaker.is_root and shim and PurePosixPath(shim[0]).name.startswith(SHIM):
                following = dict(itertools.pairwise(shim))
                docker = following.get("-namespace") == DOCKER_NAMESPACE
                return "docker" if docker else "containerd"
        return PurePosixPath(words[0]).name


def state_root(words: list[str]) -> str:
    """The absolute path after the last ``--root`` of a runtime's command line, which is the one
    that counts; "" when there is none."""
    root = ""
    for index, word in enumerate(words[1:], 1):
        if word == "--root" and words[index + 1 :]:
            root = words[index + 1]
        elif word.startswith("--root="):
            root = word.partition("=")[2]
    return root if root.startswith("/") and len(root) <= MAX_ROOT else ""


def is_usual(root: str) -> bool:
    """Whether it is one of those that are watched anyway."""
    path = os.path.realpath(root)
    return any(fnmatch.fnmatchcase(path, f"{BASE}/{pattern}") for _, pattern in ROOTS)
