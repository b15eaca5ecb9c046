"""User and group names beside ids, from the host's passwd and group files."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ig_py.gadget.datasource import add_formatted_field
from ig_py.gadget.spec import Flag, Kind
from ig_py.operators.base import Context, Operator
from ig_py.operators.formatters import formatted_name, is_taken

if TYPE_CHECKING:
    from ig_py._core import Stream
    from ig_py.operators.running import Running

TARGET = "uidgidresolver.target"
PASSWD = Path("/etc/passwd")
GROUP = Path("/etc/group")
MAX_FILE_SIZE = 16 << 20
MAX_ENTRIES = 1 << 18
MAX_NAME = 256
POLL_SECONDS = 2.0
"""How often the files are checked for changes."""


def read_names(path: Path) -> dict[int, str]:
    """id -> name of a passwd or group file; the first entry of an id counts.

    Malformed lines are skipped.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        raw = file.read(MAX_FILE_SIZE)
    names: dict[int, str] = {}
    for line in raw.splitlines()[:MAX_ENTRIES]:
        parts = line.split(b":", 3)
        if len(parts) < 3 or not parts[2].isdigit() or len(parts[2]) > 10 or not parts[0]:
            continue
        number = int(parts[2])
        if number < 1 << 32 and len(parts[0]) <= MAX_NAME:
            names.setdefault(number, parts[0].decode("utf-8", "replace"))
    return names


def _state(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)


class UidGidResolver(Operator):
    name: ClassVar[str] = "UidGidResolver"
    priority: ClassVar[int] = 5

    def __init__(self, passwd: Path = PASSWD, group: Path = GROUP) -> None:
        self._files = (passwd, group)
        self._stop = threading.Event()
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
        self._set(stream)
        self._thread = threading.Thread(
            target=self._watch, args=(stream,), name="names", daemon=True
        )
        self._thread.start()

    def _set(self, stream: Stream) -> None:
        tables: list[dict[int, str]] = []
        for path in self._files:
            try:
                tables.append(read_names(path))
            except OSError:
                tables.append({})
        stream.set_names(*tables)

    def _watch(self, stream: Stream) -> None:
        seen = [_state(p) for p in self._files]
        while not self._stop.wait(POLL_SECONDS):
            now = [_state(p) for p in self._files]
            if now != seen:
                seen = now
                self._set(stream)

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
