"""The tools under measurement: start one on an image, watch it, stop it, count."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import loads
import usage
from loads import BenchError
from usage import Memory

START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0
_MESSAGES = 500
"""How many of a tool's last characters an error shows."""
QUIET = 0.5
"""Seconds without a new byte after which a tool has caught up."""

_RUNNING = b"running..."
_POLL = 0.001
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


class Tracer:
    """One running tool; its output goes to *out*, a file as a user's redirection would make, or a
    pipe's end that the caller reads."""

    def __init__(
        self,
        tool: Tool,
        mode: str,
        directory: Path,
        flags: tuple[str, ...] = (),
        *,
        pipe: int | None = None,
    ) -> None:
        self.tool = tool
        self.out = directory / f"{tool.name}.out"
        self.err = directory / f"{tool.name}.err"
        argv = [
            *tool.run, tool.image, "--verify-image=false", "--host", f"--uid={loads.UID}",
            f"--output={mode}", *flags,
        ]  # fmt: skip
        self.started = time.monotonic()
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                argv,
                stdout=out if pipe is None else pipe,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env=tool.environment,
            )

    def wait_attached(self, load: str) -> float:
        """Seconds from start until the first event arrives: opens go on until then."""
        while not self._has_event():
            self.must_run("printed no event")
            loads.warm(load)
            time.sleep(0.01)
        seconds = time.monotonic() - self.started
        self.wait_quiet()
        return seconds

    def wait_running(self) -> float:
        """Seconds from start until a tool that was given ``-v`` says that it runs. Raises
        BenchError."""
        said = b""
        with self.err.open("rb") as f:
            while _RUNNING not in said:
                self.must_run("did not say that it runs")
                # What it says may be cut anywhere.
                said = said[-len(_RUNNING) :] + f.read()
                time.sleep(_POLL)
        return time.monotonic() - self.started

    def must_run(self, failure: str) -> None:
        """Raises BenchError with *failure* where the tool ended or took too long to start."""
        if self.process.poll() is not None or time.monotonic() - self.started > START_TIMEOUT:
            self.end()
            raise BenchError(f"{self.tool.name} {failure}: {self._end_of_messages()}")

    def _end_of_messages(self) -> str:
        return self.err.read_text(errors="replace")[-_MESSAGES:].strip() or "it said nothing"

    def _has_event(self) -> bool:
        with self.out.open("rb") as f:
            return loads.WARM_FILE.encode() in f.read(1 << 20)

    def wait_quiet(self) -> None:
        """Until the tool has printed what it has."""
        size, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET:
            now = self.out.stat().st_size
            if now != size:
                size, since = now, time.monotonic()
            time.sleep(0.05)

    def usage(self) -> usage.Usage:
        return usage.usage(self.process.pid)

    def memory(self) -> Memory:
        return usage.memory(self.process.pid)

    def stop(self) -> None:
        """Ctrl-C to the tool itself (the last of the tree, when a wrapper started it)."""
        os.kill(usage.processes(self.process.pid)[-1], signal.SIGINT)
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.end()
            raise BenchError(f"{self.tool.name} did not stop") from None

    def end(self) -> None:
        """Kill what still runs of it."""
        if self.process.poll() is None:
            for process in reversed(usage.processes(self.process.pid)):
                os.kill(process, signal.SIGKILL)
            self.process.wait()

    def emitted(self, with_text: str = "") -> int:
        """Events of the load in the output; those *with_text* in them alone."""
        needle, text = loads.LOAD_FILE.encode(), with_text.encode()
        with self.out.open("rb") as f:
            return sum(1 for line in f if needle in line and text in line)

    def lost(self) -> int | None:
        """As the tool itself reports; None: it says that it cannot tell."""
        text = self.err.read_text(errors="replace")
        if self.tool.name == "ig":
            return sum(int(n) for n in _IG_LOST.findall(text))
        found = _OURS.search(text)
        if not found:
            raise BenchError(f"no summary from {self.tool.name}: {self._end_of_messages()}")
        return int(found.group(2)) if found.group(2) is not None else None
