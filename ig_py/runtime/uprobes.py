"""User-space probes: each file is probed once, as long as a container has it.

Facts: docs/programs.md#files-of-containers.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from ig_py.containers.targets import HOST, Target
from ig_py.errors import ObjectError
from ig_py.gadget import sections
from ig_py.gadget.spec import ProgramSpec
from ig_py.host.mounted_root import mount_of, mounted_at, root_mount
from ig_py.host.proc import HostView
from ig_py.records import dataclass, field
from ig_py.runtime.target_attacher import Missing, Release

if TYPE_CHECKING:
    from ig_py._core import Binary, Object

log = logging.getLogger(__name__)

MAX_ATTACHED = 100_000
"""Probes of all programs in all files together."""
PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Directories in which an executable is looked for that is named without a path."""

SAME_ROOT_SECONDS = 1.0
"""How long a container's root is expected to change when it is the one of its runtime."""

_Key = tuple[str, tuple[int, ...]]


_NOT_SWITCHED = "its root directory is still the one of the container runtime"


@dataclass
class _Probe:
    """*number* is the core's, to release it; *users* are ids of targets that have the file."""

    number: int
    users: set[str]


@dataclass
class _Seen:
    """What is known of one target. ``mount``: number of the mount of the root directory that was
    looked at last; ``switched``: it is not the runtime's; ``attached``: names of the programs that
    are attached to a file below it."""

    since: float
    mount: int = -1
    switched: bool = False
    attached: set[str] = field(default_factory=set)


class Uprobes:
    """Attaches programs to files below containers' roots.

    A container begins in a copy of its runtime's mount namespace: its first process switches to
    the container's root only when the runtime has mounted it (pivot_root(2)). Files are looked up
    after that. A container that keeps that root is taken as it is after
    :data:`SAME_ROOT_SECONDS`, and looked at again.
    """

    def __init__(
        self, obj: Object, programs: list[ProgramSpec], view: HostView, release: Release
    ) -> None:
        self._object = obj
        self._release_number = release
        self._view = view
        self._wanted = [(program, *file_and_symbol(program)) for program in programs]
        self._probes: dict[_Key, _Probe] = {}
        self._seen: dict[str, _Seen] = {}
        self._full_said = False
        self.attached = 0
        """Number of probes now."""

    @property
    def programs(self) -> list[str]:
        return [sections.label(program) for program, _, _ in self._wanted]

    def attach(self, target: Target) -> Missing | None:
        seen = self._seen.setdefault(target.id, _Seen(time.monotonic()))
        root = self._root(target)
        try:
            self._look_at_root(target, root, seen)
            if not seen.switched and time.monotonic() - seen.since < SAME_ROOT_SECONDS:
                return Missing(dict.fromkeys(self.programs, _NOT_SWITCHED), soon=True)
            reasons = self._attach_files(target, root, seen)
        finally:
            os.close(root)
        return None if seen.switched and not reasons else Missing(reasons)

    def _look_at_root(self, target: Target, root: int, seen: _Seen) -> None:
        """Note whether *root* is the container's own, and drop what is attached below another."""
        mount = mount_of(root)
        if mount == seen.mount:
            return
        if seen.attached:
            self._release(target)
            seen.attached.clear()
        seen.mount = mount
        seen.switched = target == HOST or not self._of_runtime(target, mount)

    def _attach_files(self, target: Target, root: int, seen: _Seen) -> dict[str, str]:
        """Why programs are not attached, by their labels."""
        from ig_py._core import CoreError

        files: dict[str, tuple[list[Binary], str]] = {}
        reasons = {}
        for program, file, symbol in self._wanted:
            if program.name in seen.attached:
                continue
            if file not in files:
                files[file] = self._files(root, file)
            binaries, reason = files[file]
            for binary in binaries:
                try:
                    if self._attach(program, binary, symbol, target):
                        seen.attached.add(program.name)
                    else:
                        reason = f"{MAX_ATTACHED} files are probed, the most allowed"
                except CoreError as error:
                    reason = error.message
            if program.name not in seen.attached:
                reasons[sections.label(program)] = reason
        return reasons

    def detach(self, target: Target) -> None:
        self._seen.pop(target.id, None)
        self._release(target)

    def _release(self, target: Target) -> None:
        for key, probe in list(self._probes.items()):
            probe.users.discard(target.id)
            if not probe.users:
                del self._probes[key]
                self.attached -= 1
                self._release_number(probe.number)

    def _attach(self, program: ProgramSpec, binary: Binary, symbol: str, target: Target) -> bool:
        """False when too many files are probed."""
        key = (program.name, binary.identity)
        probe = self._probes.get(key)
        if probe is None:
            if len(self._probes) >= MAX_ATTACHED:
                if not self._full_said:
                    self._full_said = True
                    log.warning(
                        "%d files are probed, the most allowed: others are not", MAX_ATTACHED
                    )
                return False
            number = self._object.attach_binary(program.name, binary, symbol)
            self.attached += 1
            probe = self._probes[key] = _Probe(number, set())
        probe.users.add(target.id)
        return True

    def _of_runtime(self, target: Target, mount: int) -> bool:
        """Whether *mount* shows the root directory of the host, or of the process that made the
        first process of *target*: a runtime may itself run in a container."""
        proc = self._view.proc
        shown = mounted_at(f"{proc}/{target.pid}", mount)
        if shown is None:
            return True
        makers = {1}
        parent = self._view.status(target.pid).get("PPid", "0")
        if parent.isdecimal() and int(parent):
            # Of processes of one container, none has made the container.
            mntns = self._view.namespace(int(parent), "mnt")
            if mntns is not None and mntns != target.mntns:
                makers.add(int(parent))
        return any(shown == root_mount(f"{proc}/{pid}") for pid in makers)

    def _root(self, target: Target) -> int:
        """Descriptor of the root directory that *target* sees."""
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        if target == HOST:
            return os.open(self._view.root, flags)
        root = os.open(f"{self._view.proc}/{target.pid}/root", flags)
        # The pid may belong to another process by now, which has another mount namespace.
        if target.mntns and self._view.namespace(target.pid, "mnt") != target.mntns:
            os.close(root)
            raise ProcessLookupError(f"process {target.pid} ended")
        return root

    def _files(self, root: int, file: str) -> tuple[list[Binary], str]:
        """The files that *file* means below *root*, each once, and why there are not more."""
        from ig_py._core import Binary, CoreError, find_libraries

        binaries: list[Binary] = []
        reason = f"it has no file {file!a}"
        guessed = False
        if file.startswith("/"):
            candidates = [file]
        else:
            library, _, _ = file.partition(".so")
            try:
                found = find_libraries(root, library)
            except CoreError as error:
                reason, found = error.message, []
            candidates = [f for f in found if ".so" not in file or f.rsplit("/", 1)[1] == file]
            if not candidates:
                guessed, candidates = True, [f"{directory}/{file}" for directory in PATH]
        seen = set()
        for path in candidates:
            try:
                binary = Binary(root, path)
            except CoreError as error:
                if not guessed:
                    reason = error.message
                continue
            if binary.identity not in seen:
                seen.add(binary.identity)
                binaries.append(binary)
        return binaries, reason


def file_and_symbol(program: ProgramSpec) -> tuple[str, str]:
    """``libc:malloc`` → (``libc``, ``malloc``).

    Raises:
        ObjectError: The target has no symbol, or its file is neither an absolute path nor a name.
    """
    target = sections.target(program)
    file, colon, symbol = target.partition(":")
    if not colon or not symbol or not file or ("/" in file and not file.startswith("/")):
        raise ObjectError(
            f'program "{program.name}" ({program.section}): its target {target!a} must read '
            "FILE:SYMBOL, with the path of a file or the name of a library"
        )
    if sections.kind(program.section) == "usdt" and ":" not in symbol:
        raise ObjectError(
            f'program "{program.name}" ({program.section}): its target {target!a} must read '
            "FILE:PROVIDER:NAME"
        )
    return file, symbol
