"""User and group names beside ids, from the host's passwd and group files."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ig_py.errors import ContainerError
from ig_py.gadget.datasource import add_formatted_field
from ig_py.gadget.spec import Flag, Kind
from ig_py.host.file_changes import FileChanges
from ig_py.host.latch import Latch
from ig_py.host.safe_open import FileRefused, Links, read_beneath
from ig_py.operators.base import Context, Operator
from ig_py.operators.formatters import formatted_name, is_taken

if TYPE_CHECKING:
    from ig_py._core import Stream
    from ig_py.host.proc import HostView
    from ig_py.operators.running import Running

log = logging.getLogger(__name__)

TARGET = "uidgidresolver.target"
FILES = ("etc/passwd", "etc/group")
"""Of the host: below HOST_ROOT. A container's own are not looked at, as in `ig`."""
MAX_FILE_SIZE = 16 << 20
MAX_ENTRIES = 1 << 18
MAX_NAME = 256
CHECK_SECONDS = 60.0
"""How often the files are looked at though inotify told of no change: it tells of none that another
machine makes on a network file system, or that a mount makes."""
POLL_SECONDS = 2.0
"""As :data:`CHECK_SECONDS`, where inotify cannot be used."""
LEAST_SECONDS = 0.1
"""Between two looks, however often other files in the directory change."""


def parse_names(content: bytes) -> dict[int, str]:
    """id -> name of a passwd or group file; the first entry of an id counts (getpwuid(3)).

    Blanks before a line do not count; comments (``#``), entries of NIS (``+``, ``-``) and
    malformed lines are skipped.
    """
    names: dict[int, str] = {}
    for line in content.splitlines()[:MAX_ENTRIES]:
        parts = line.lstrip(b" \t").split(b":", 3)
        if len(parts) < 3 or not parts[2].isdigit() or len(parts[2]) > 10:
            continue
        number = int(parts[2])
        if parts[0][:1] in (b"", b"#", b"+", b"-"):
            continue
        if number < 1 << 32 and len(parts[0]) <= MAX_NAME:
            names.setdefault(number, parts[0].decode("utf-8", "replace"))
    return names


class _HostFile:
    """The passwd or group file of the host, and whether it changed since it was read."""

    def __init__(self, view: HostView, name: str) -> None:
        self._view = view
        self._name = name
        self._seen: tuple[int, ...] = ()
        self._refused = ""

    def places(self) -> list[str]:
        """What changes when the file does: it, and the directories of its name and of what a link
        of that name leads to."""
        name = Path(self._view.root) / self._name
        with contextlib.suppress(ContainerError):
            found = self._view.path(f"/{self._name}")
            if self._view.root == "/":
                found = os.path.realpath(found)
            return [str(name.parent), str(Path(found).parent), found]
        return [str(name.parent)]

    def changed(self) -> bool:
        """Whether it is another file, or has another content, than at the last call."""
        try:
            facts = Path(self._view.path(f"/{self._name}")).stat()
            now: tuple[int, ...] = (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size)
        except (OSError, ContainerError):
            now = ()
        changed, self._seen = now != self._seen, now
        return changed

    def names(self) -> dict[int, str]:
        """As it is now; {} where it cannot be read, with a warning for each new reason."""
        try:
            content = read_beneath(
                self._view.root,
                self._name,
                most=MAX_FILE_SIZE,
                links=Links.IN_ROOT,
                one_mount=False,
            )
        except FileRefused as error:
            if error.reason != self._refused:
                log.warning("%s; ids stay without names", error)
            self._refused = error.reason
            return {}
        self._refused = ""
        return parse_names(content or b"")


class UidGidResolver(Operator):
    name: ClassVar[str] = "UidGidResolver"
    priority: ClassVar[int] = 5

    def __init__(self) -> None:
        self._files: list[_HostFile] = []
        self._stop = Latch()
        self._thread: threading.Thread | None = None

    def instantiate(self, ctx: Context) -> bool:
        active = False
        for ds in ctx.spec.datasources:
            for op, type_name, priority in (
                ("user", "gadget_uid", 0),
                ("group", "gadget_gid", 1),
            ):
                for source in [f for f in ds.fields if f.has_type(type_name)]:
                    if source.kind not in (Kind.UINT32, Kind.INT32) or source.array:
                        continue
                    name = formatted_name(source, TARGET) or op
                    if is_taken(ds, source, name):
                        continue
                    formatted = add_formatted_field(ds, source, name, flags=Flag.HIDDEN)
                    source.flags |= Flag.HIDDEN
                    ctx.plan.add_step(
                        ds.name, priority, op=op, src=source.index, dst=formatted.index
                    )
                    active = True
        return active

    def start(self, ctx: Context, running: Running) -> None:
        stream = running.stream
        self._files = [_HostFile(running.host.view, name) for name in FILES]
        # Looked at before it is read: a change in between is read twice, and never missed.
        for file in self._files:
            file.changed()
        self._set(stream)
        self._thread = threading.Thread(
            target=self._watch, args=(stream,), name="names", daemon=True
        )
        self._thread.start()

    def _set(self, stream: Stream) -> None:
        users, groups = (file.names() for file in self._files)
        stream.set_names(users, groups)

    def _watch(self, stream: Stream) -> None:
        try:
            changes = FileChanges()
        except OSError as error:
            log.debug("user and group names are looked for every %g s: %s", POLL_SECONDS, error)
            self._poll(stream)
            return
        try:
            while not self._stop:
                # Watched before it is looked at: no change in between is missed.
                watched = changes.watch(p for file in self._files for p in file.places())
                self._look(stream)
                changes.wait(self._stop.fileno(), CHECK_SECONDS if watched else POLL_SECONDS)
                self._pause(LEAST_SECONDS)
        finally:
            changes.close()

    def _poll(self, stream: Stream) -> None:
        while not self._stop:
            self._look(stream)
            self._pause(POLL_SECONDS)

    def _look(self, stream: Stream) -> None:
        if any([file.changed() for file in self._files]):
            self._set(stream)

    def _pause(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._stop.fileno(), select.POLLIN)
        poll.poll(seconds * 1000)

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
