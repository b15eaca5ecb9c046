"""User-space probes: each file is probed once, as long as a container has it.

A container's files are looked at in threads, one a container at a time: they may never answer.

Facts: docs/programs.md#files-of-containers.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from ig_py.containers.targets import HOST, Target
from ig_py.errors import ObjectError
from ig_py.gadget import sections
from ig_py.gadget.spec import ProgramSpec
from ig_py.host.mounted_root import mount_of, mounted_at, root_mount
from ig_py.host.openat2 import Resolve, open_path
from ig_py.host.proc import HostView
from ig_py.records import dataclass, field
from ig_py.runtime.target_attacher import Attempt, Missing, Release

if TYPE_CHECKING:
    from ig_py._core import Binary, Object

log = logging.getLogger(__name__)

MAX_ATTACHED = 100_000
"""Probes of all programs in all files together."""
PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Directories in which an executable is looked for that is named without a path."""

SAME_ROOT_SECONDS = 1.0
"""How long a container's root is expected to change when it is the one of its runtime."""

MAX_REPLACED = 4
"""Files of one program and container that stay probed after they were replaced: processes that
began before still have them mapped."""

_CACHE = "/etc/ld.so.cache"
_NOT_SWITCHED = "its root directory is still the one of the container runtime"

_Key = tuple[str, tuple[int, ...]]
"""Name of the program, and identity of the file."""
_Stat = tuple[int, int, int] | None
"""Device, inode and time of change of a file; None when it is not there."""


@dataclass
class _Probe:
    """*number* is the core's, to release it (None: it is being attached); *users* are ids of
    targets that have the file; *settled*: it is attached, or could not be."""

    users: set[str]
    number: int | None = None
    settled: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Seen:
    """What is known of one target. ``mount``: number of the mount of the root directory that was
    looked at last; ``switched``: it is not the runtime's; ``attached``: names of the programs that
    are attached to a file below it; ``files``: what was looked at, as long as it stays the same
    nothing is to be done; ``probes``: the target's, with the replaced ones first."""

    since: float
    mount: int = -1
    switched: bool = False
    attached: set[str] = field(default_factory=set)
    files: dict[str, _Stat] = field(default_factory=dict)
    probes: list[_Key] = field(default_factory=list)


class Uprobes:
    """Attaches programs to files below containers' roots.

    A container begins in a copy of its runtime's mount namespace: its first process switches to
    the container's root only when the runtime has mounted it (pivot_root(2)). Files are looked up
    after that. A container that keeps that root is taken as it is after
    :data:`SAME_ROOT_SECONDS`, or when its runtime starts it, and looked at again. So are files: a
    package's upgrade replaces them.
    """

    def __init__(
        self, obj: Object, programs: list[ProgramSpec], view: HostView, release: Release
    ) -> None:
        self._object = obj
        self._release_number = release
        self._view = view
        self._wanted = [(program, *file_and_symbol(program)) for program in programs]
        self._lock = threading.Lock()
        self._probes: dict[_Key, _Probe] = {}
        self._seen: dict[str, _Seen] = {}
        self._full_said = False
        self.attached = 0
        """Number of probes now."""

    @property
    def programs(self) -> list[str]:
        return [sections.label(program) for program, _, _ in self._wanted]

    def attach(self, target: Target, *, made: bool) -> Attempt:
        seen = self._seen.setdefault(target.id, _Seen(time.monotonic()))
        root = self._root(target)
        try:
            self._look_at_root(target, root, seen)
        finally:
            os.close(root)
        early = time.monotonic() - seen.since < SAME_ROOT_SECONDS
        if not seen.switched and early and not made:
            return Missing(dict.fromkeys(self.programs, _NOT_SWITCHED), soon=True)
        return lambda: self._look_up(target, seen)

    def _look_at_root(self, target: Target, root: int, seen: _Seen) -> None:
        """Note whether *root* is the container's own, and drop what is attached below another."""
        mount = mount_of(root)
        if mount == seen.mount:
            return
        if seen.attached:
            self._release(target.id, seen.probes)
            seen.probes, seen.files = [], {}
            seen.attached.clear()
        seen.mount = mount
        seen.switched = target == HOST or not self._of_runtime(target, mount)

    # In a thread of its own.

    def _look_up(self, target: Target, seen: _Seen) -> Missing:
        root = self._root(target)
        try:
            if mount_of(root) != seen.mount:
                return Missing(dict.fromkeys(self.programs, _NOT_SWITCHED), soon=True)
            now = {path: _stat(root, path) for path in seen.files}
            if seen.files and now == seen.files and len(seen.attached) == len(self._wanted):
                return Missing({})
            return Missing(self._attach_files(target, root, seen))
        finally:
            os.close(root)

    def _attach_files(self, target: Target, root: int, seen: _Seen) -> dict[str, str]:
        """Why programs are not attached, by their labels."""
        from ig_py._core import CoreError

        # What is looked at is noted first: a file that is replaced meanwhile is looked at again.
        seen.files = {_CACHE: _stat(root, _CACHE)}
        files: dict[str, tuple[dict[str, Binary], str]] = {}
        reasons, keys = {}, list[_Key]()
        seen.attached.clear()
        for program, file, symbol in self._wanted:
            if file not in files:
                files[file] = self._files(root, file, seen.files)
            binaries, reason = files[file]
            for binary in binaries.values():
                key = (program.name, tuple(binary.identity))
                try:
                    if self._attach(key, binary, symbol, target, seen):
                        seen.attached.add(program.name)
                        keys.append(key)
                    else:
                        reason = f"{MAX_ATTACHED} files are probed, the most allowed"
                except CoreError as error:
                    reason = error.message
            if program.name not in seen.attached:
                reasons[sections.label(program)] = reason
        self._keep(target, seen, keys)
        return reasons

    def _keep(self, target: Target, seen: _Seen, keys: list[_Key]) -> None:
        """Release the oldest of the replaced files: a container may replace them without end."""
        replaced = [key for key in seen.probes if key not in keys]
        surplus = max(0, len(replaced) - MAX_REPLACED * len(self._wanted))
        self._release(target.id, replaced[:surplus])
        seen.probes = replaced[surplus:] + keys

    def _attach(self, key: _Key, binary: Binary, symbol: str, target: Target, seen: _Seen) -> bool:
        """False when too many files are probed.

        Raises:
            CoreError: The file has no such function, or the kernel refuses.
            ProcessLookupError: The target has ended.
        """
        while True:
            with self._lock:
                if self._seen.get(target.id) is not seen:
                    raise ProcessLookupError(f"{target.name} ended")
                probe = self._probes.get(key)
                if probe is None:
                    if len(self._probes) >= MAX_ATTACHED:
                        self._say_full()
                        return False
                    probe = self._probes[key] = _Probe({target.id})
                    break
                if probe.number is not None:
                    probe.users.add(target.id)
                    return True
            # Another container of the same file attaches to it.
            probe.settled.wait()
        try:
            number = self._object.attach_binary(key[0], binary, symbol)
        except BaseException:
            with self._lock:
                del self._probes[key]
            probe.settled.set()
            raise
        with self._lock:
            probe.number = number
            self.attached += 1
        probe.settled.set()
        # All of its targets may have ended meanwhile.
        self._release(None, [key])
        return True

    def _say_full(self) -> None:
        if not self._full_said:
            self._full_said = True
            log.warning("%d files are probed, the most allowed: others are not", MAX_ATTACHED)

    # Any thread.

    def detach(self, target: Target) -> None:
        with self._lock:
            self._seen.pop(target.id, None)
            keys = [key for key, probe in self._probes.items() if target.id in probe.users]
        self._release(target.id, keys)

    def _release(self, target_id: str | None, keys: list[_Key]) -> None:
        """The target (None: none) has these files no more."""
        released = []
        with self._lock:
            for key in keys:
                probe = self._probes.get(key)
                if probe is None:
                    continue
                if target_id is not None:
                    probe.users.discard(target_id)
                if not probe.users and probe.number is not None:
                    del self._probes[key]
                    self.attached -= 1
                    released.append(probe.number)
        for number in released:
            self._release_number(number)

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

    def _files(
        self, root: int, file: str, looked_at: dict[str, _Stat]
    ) -> tuple[dict[str, Binary], str]:
        """The files that *file* means below *root*, by path, each once, and why there are not
        more. Notes in *looked_at* what the answer depends on."""
        from ig_py._core import Binary, CoreError, find_libraries

        binaries: dict[str, Binary] = {}
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
            looked_at[path] = _stat(root, path)
            try:
                binary = Binary(root, path)
            except CoreError as error:
                if not guessed:
                    reason = error.message
                continue
            if binary.identity not in seen:
                seen.add(binary.identity)
                binaries[path] = binary
        return binaries, reason


def _stat(root: int, path: str) -> _Stat:
    try:
        fd = open_path(root, path.lstrip("/"), Resolve.IN_ROOT | Resolve.NO_MAGICLINKS)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        return found.st_dev, found.st_ino, found.st_ctime_ns
    finally:
        os.close(fd)


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
