"""Which processes hold an eBPF program, by a descriptor of it or of a link to it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from ig_py.host.files import read_text, require_absent
from ig_py.host.proc import HostView

RESCAN_SECONDS = 5.0
"""How often all descriptors of all processes are read while the programs stay the same."""
MAX_HOLDERS = 256
"""Most processes that are listed for one program."""
_LINKS = ("anon_inode:bpf-prog", "anon_inode:bpf_link")


class Holders:
    """The processes that hold programs; read again when programs change, or after a while."""

    def __init__(self, view: HostView, clock: Callable[[], float] = time.monotonic) -> None:
        self._view = view
        self._clock = clock
        self._programs: set[int] = set()
        self._found: dict[int, tuple[str, str]] = {}
        self._at = -RESCAN_SECONDS

    def of(self, programs: set[int]) -> dict[int, tuple[str, str]]:
        """Program id → names and pids, each a comma list in the order of pids.

        Raises:
            HostReadError: The processes cannot be read.
        """
        now = self._clock()
        if programs != self._programs or now - self._at >= RESCAN_SECONDS:
            self._found = self._scan() if programs else {}
            self._programs, self._at = set(programs), now
        return self._found

    def _scan(self) -> dict[int, tuple[str, str]]:
        held: dict[int, list[int]] = {}
        for pid in sorted(self._view.pids()):
            for program in sorted(set(self._held_by(pid))):
                held.setdefault(program, []).append(pid)
        found = {}
        for program, pids in held.items():
            named = pids[:MAX_HOLDERS]
            comms = ",".join(self._view.read(pid, "comm").rstrip("\n") for pid in named)
            found[program] = (comms, ",".join(map(str, named)))
        return found

    def _held_by(self, pid: int) -> Iterator[int]:
        directory = f"{self._view.proc}/{pid}/fd"
        try:
            names = os.listdir(directory)  # noqa: PTH208
        except OSError as error:
            require_absent(directory, error, denied=True)
            return
        for name in names:
            link = f"{directory}/{name}"
            try:
                target = os.readlink(link)  # noqa: PTH115
            except OSError as error:
                require_absent(link, error, denied=True)
                continue
            if target in _LINKS:
                facts = read_text(f"{self._view.proc}/{pid}/fdinfo/{name}", denied=True)
                for line in facts.splitlines():
                    key, _, value = line.partition(":")
                    if key == "prog_id" and value.strip().isdecimal():
                        yield int(value)
