"""User-space probes: each file is probed once, as long as a container has it.

Facts: docs/programs.md#files-of-containers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ig_py.containers.targets import HOST, Target
from ig_py.errors import ObjectError
from ig_py.gadget import sections
from ig_py.gadget.spec import ProgramSpec
from ig_py.host.proc import HostView
from ig_py.records import dataclass

if TYPE_CHECKING:
    from ig_py._core import Binary, Object

log = logging.getLogger(__name__)

MAX_ATTACHED = 100_000
"""Probes of all programs in all files together."""
PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Directories in which an executable is looked for that is named without a path."""

_Key = tuple[str, tuple[int, ...]]


@dataclass
class _Probe:
    """*number* is the core's, to release it; *users* are ids of targets that have the file."""

    number: int
    users: set[str]


class Uprobes:
    """Attaches programs to files below containers' roots."""

    def __init__(self, obj: Object, programs: list[ProgramSpec], view: HostView) -> None:
        self._object = obj
        self._view = view
        self._wanted = [(program, *file_and_symbol(program)) for program in programs]
        self._probes: dict[_Key, _Probe] = {}
        self.attached = 0
        """Number of probes now."""

    def attach(self, target: Target) -> None:
        from ig_py._core import CoreError

        root = self._root(target)
        try:
            files: dict[str, list[Binary]] = {}
            for program, file, symbol in self._wanted:
                if file not in files:
                    files[file] = list(self._files(root, file))
                for binary in files[file]:
                    try:
                        self._attach(program, binary, symbol, target)
                    except CoreError as error:
                        log.debug("container %a: %s", target.name, error.message)
        finally:
            os.close(root)

    def detach(self, target: Target) -> None:
        for key, probe in list(self._probes.items()):
            probe.users.discard(target.id)
            if not probe.users:
                del self._probes[key]
                if self._object.release(probe.number):
                    self.attached -= 1

    def _attach(self, program: ProgramSpec, binary: Binary, symbol: str, target: Target) -> None:
        key = (program.name, binary.identity)
        probe = self._probes.get(key)
        if probe is None:
            if len(self._probes) >= MAX_ATTACHED:
                log.warning("%d files are probed, the most allowed: others are not", MAX_ATTACHED)
                return
            number = self._object.attach_binary(program.name, binary, symbol)
            self.attached += 1
            probe = self._probes[key] = _Probe(number, set())
        probe.users.add(target.id)

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

    def _files(self, root: int, file: str) -> Iterator[Binary]:
        from ig_py._core import Binary, CoreError, find_libraries

        if file.startswith("/"):
            candidates = [file]
        else:
            library, _, _ = file.partition(".so")
            try:
                found = find_libraries(root, library)
            except CoreError as error:
                log.debug("%s", error.message)
                found = []
            candidates = [f for f in found if ".so" not in file or f.rsplit("/", 1)[1] == file]
            candidates = candidates or [f"{directory}/{file}" for directory in PATH]
        seen = set()
        for path in candidates:
            try:
                binary = Binary(root, path)
            except CoreError as error:
                log.debug("%s", error.message)
                continue
            if binary.identity not in seen:
                seen.add(binary.identity)
                yield binary


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
