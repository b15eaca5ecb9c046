"""The tools under measurement: start one on an image, watch it, stop it, count."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

UID = 61234
"""The load's user: the gadget selects exactly its events."""
WARM_FILE = "/dev/zero"
LOAD_FILE = "/dev/null"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0
_MESSAGES = 500
"""How many of a tool's last characters an error shows."""
QUIET = 0.5
"""Seconds without a new byte after which a tool has caught up."""

_IG_LOST = re.compile(r"lost (\d+) samples")
_OURS = re.compile(r"(\d+) events emitted, (?:(\d+) lost|loss not measurable)")


@dataclass(frozen=True)
class Tool:
    """How to call a tool: ``name`` is "ig-py", "base" (another build of it) or "ig", ``run`` its
    argv before the image, ``environment`` None where it is this process's own."""

    name: str
    run: tuple[str, ...]
    image: str
    environment: dict[str, str] | None = None


class BenchError(Exception):
    """A measurement cannot be made; the message says why."""


@dataclass
class Usage:
    """CPU seconds (user + system) and the peak of resident memory (KiB) of a process tree."""

    cpu: float
    rss_kib: int


def _processes(pid: int) -> list[int]:
    """*pid* and its descendants."""
    found = [pid]
    for process in found:
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def usage(pid: int) -> Usage:
    """Of the whole tree under *pid*, children already reaped included."""
    cpu, rss = 0, 0
    for process in _processes(pid):
        try:
            stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:
            continue
        cpu += sum(int(n) for n in stat[11:15])
        peak = re.search(r"VmHWM:\s+(\d+)", status)
        rss += int(peak.group(1)) if peak else 0
    return Usage(cpu / os.sysconf("SC_CLK_TCK"), rss)


class Tracer:
    """One running tool; its output goes to a file, as a user's redirection would."""

    def __init__(self, tool: Tool, mode: str, directory: Path, flags: tuple[str, ...] = ()) -> None:
        self.tool = tool
        self.out = directory / f"{tool.name}.out"
        self.err = directory / f"{tool.name}.err"
        argv = [
            *tool.run, tool.image, "--verify-image=false", "--host", f"--uid={UID}",
            f"--output={mode}", *flags,
        ]  # fmt: skip
        self.started = time.monotonic()
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                argv, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=tool.environment
            )

    def wait_attached(self, load: str) -> float:
        """Seconds from start until the first event arrives: opens go on until then."""
        while not self._has_event():
            if self.process.poll() is not None or time.monotonic() - self.started > START_TIMEOUT:
                self.process.kill()
                raise BenchError(f"{self.tool.name} printed no event: {self._end_of_messages()}")
            subprocess.run(
                [load, "open", "1", "0", str(UID), "1", WARM_FILE],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            time.sleep(0.01)
        seconds = time.monotonic() - self.started
        self.wait_quiet()
        return seconds

    def _end_of_messages(self) -> str:
        return self.err.read_text(errors="replace")[-_MESSAGES:].strip() or "it said nothing"

    def _has_event(self) -> bool:
        with self.out.open("rb") as f:
            return WARM_FILE.encode() in f.read(1 << 20)

    def wait_quiet(self) -> None:
        """Until the tool has printed what it has."""
        size, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET:
            now = self.out.stat().st_size
            if now != size:
                size, since = now, time.monotonic()
            time.sleep(0.05)

    def usage(self) -> Usage:
        return usage(self.process.pid)

    def stop(self) -> None:
        """Ctrl-C to the tool itself (the last of the tree, when a wrapper started it)."""
        os.kill(_processes(self.process.pid)[-1], signal.SIGINT)
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise BenchError(f"{self.tool.name} did not stop") from None

    def emitted(self) -> int:
        """Events of the load in the output."""
        needle = LOAD_FILE.encode()
        with self.out.open("rb") as f:
            return sum(1 for line in f if needle in line)

    def lost(self) -> int | None:
        """As the tool itself reports; None: it says that it cannot tell."""
        text = self.err.read_text(errors="replace")
        if self.tool.name == "ig":
            return sum(int(n) for n in _IG_LOST.findall(text))
        found = _OURS.search(text)
        if not found:
            raise BenchError(f"no summary from {self.tool.name}: {self._end_of_messages()}")
        return int(found.group(2)) if found.group(2) is not None else None


def run_load(load: str, count: int, rate: int) -> dict[str, float]:
    """Opens of the load's file; what it says of itself."""
    done = subprocess.run(
        [load, "open", str(count), str(rate), str(UID), "1", LOAD_FILE],
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result
