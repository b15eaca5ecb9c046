"""How many instructions the kernel's verifier has processed for one run's programs.

The kernel bounds that number for one program (BPF_COMPLEXITY_LIMIT_INSNS in kernel/bpf/verifier.c).
It tells it of each loaded program in ``/proc/PID/fdinfo`` (since Linux 5.16), and of one that it
refuses in the verifier's log. Unlike time it is the same on every machine.
"""

from __future__ import annotations

import os
import re

from ig_py.host.files import HostReadError, read_text

_FDINFO = "/proc/self/fdinfo"
_PROGRAM = re.compile(r"^prog_id:\s*(\d+)$", re.MULTILINE)
_VERIFIED = re.compile(r"^verified_insns:\s*(\d+)$", re.MULTILINE)
_REFUSED = re.compile(r"^processed (\d+) insns", re.MULTILINE)


def processed(log: str) -> int:
    """Instructions that the verifier processed of the program that it refused, by its log; 0 where
    that does not tell."""
    return sum(int(found) for found in _REFUSED.findall(log))


class VerifierWork:
    """Counts from its creation on. Programs that were loaded before do not count."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._refused = 0
        self._before = 0
        self.instructions()
        self._before = sum(self._known.values())

    def refused(self, log: str) -> None:
        """A program was refused with that log; any thread."""
        self._refused += processed(log)

    def instructions(self) -> int:
        """Instructions of the programs that this process holds or held at an earlier call, where
        the kernel tells them, and of those that were refused."""
        try:
            descriptors = os.listdir(_FDINFO)  # noqa: PTH208 (a Path for each is slow)
        except OSError:
            # No descriptor is left to open the directory: the load will tell.
            descriptors = []
        for descriptor in descriptors:
            try:
                text = read_text(f"{_FDINFO}/{descriptor}", denied=True)
            except HostReadError:
                continue
            program, verified = _PROGRAM.search(text), _VERIFIED.search(text)
            if program and verified:
                self._known[int(program[1])] = int(verified[1])
        return sum(self._known.values()) - self._before + self._refused
