"""``--trace-pipe``: what programs print with ``bpf_printk()``, as messages of the run.

The kernel has one trace pipe for all programs: messages of other programs are shown too, and a
line that one reader takes is gone for other readers.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, ClassVar

from ig_py.errors import KernelError
from ig_py.gadget.params import EBPF_PREFIX
from ig_py.gadget.spec import ParamSpec
from ig_py.operators.base import Context, Operator

if TYPE_CHECKING:
    from ig_py.operators.running import Running

KEY = "trace-pipe"
INTERVAL_NS = 200_000_000
MAX_READ = 1 << 20
"""Most bytes that are read at a time, so that the run gets back to its events."""
MAX_LINE = 4096
_CHUNK = 1 << 16

log = logging.getLogger(__name__)
# The user asked for these messages with a flag: they are shown without -v.
log.setLevel(logging.INFO)


class TracePipe(Operator):
    """Belongs to the eBPF layer: every gadget with programs has its parameter."""

    name: ClassVar[str] = "trace_pipe"
    priority: ClassVar[int] = -1000

    def __init__(self) -> None:
        self._pipe: int | None = None
        self._rest = b""

    def instantiate(self, ctx: Context) -> bool:
        if not ctx.spec.has_object:
            return False
        ctx.spec.params.append(
            ParamSpec(
                key=KEY,
                prefix=EBPF_PREFIX,
                default="false",
                type_hint="bool",
                title="Print Kernel Tracing Messages",
                description="Show what eBPF programs print with bpf_printk(), other tools' too",
                tags=["advanced", "group:eBPF"],
            )
        )
        return ctx.switch(EBPF_PREFIX + KEY)

    def start(self, ctx: Context, running: Running) -> None:
        from ig_py.host.tracefs import with_tracefs

        try:
            self._pipe = with_tracefs(_open)
        except OSError as err:
            remedy = "run as root, where the kernel is not locked down"
            if err.errno == errno.EBUSY:
                remedy = "end the other program that reads it"
            raise KernelError(
                f"opening the kernel's trace pipe for --{KEY}: {err.strerror}", remedy=remedy
            ) from err
        running.every(INTERVAL_NS, self._show)

    def drained(self, running: Running) -> bool:
        self._show()
        return False

    def stop(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _show(self) -> None:
        for line in self.lines(self._read()):
            log.info("%s", line, extra={"asked_for": True})

    def lines(self, data: bytes) -> list[str]:
        """Whole lines of what was read so far; a line longer than MAX_LINE comes in pieces."""
        found = []
        *whole, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > MAX_LINE:
            whole.append(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]
        for line in whole:
            pieces = [line[i : i + MAX_LINE] for i in range(0, len(line), MAX_LINE)]
            found += [piece.decode("utf-8", "replace") for piece in pieces]
        return found

    def _read(self) -> bytes:
        data = b""
        if self._pipe is None:
            return data
        try:
            while len(data) < MAX_READ and (chunk := os.read(self._pipe, _CHUNK)):
                data += chunk
        except BlockingIOError:
            pass
        except OSError as err:
            log.warning("reading the kernel's trace pipe ends: %s", err.strerror)
            self._close()
        return data


def _open() -> int:
    from ig_py.host.tracefs import root

    return os.open(root() / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
