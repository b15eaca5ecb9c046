"""``ig-py run`` as a process of its own, with what it printed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.waiting import deadline, wait_for

IG_PY = str(Path(sys.executable).with_name("ig-py"))
SEPARATOR = "\N{NO-BREAK SPACE}"
"""Between the arguments of an execution, as our gadget writes them."""
RUNNING = "running..."
"""What ``-v`` says when events flow."""


def ig_py(*arguments: str, seconds: float = 120, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end; standard input is empty."""
    return subprocess.run(
        [IG_PY, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=deadline(seconds),
        check=False,
        **kwargs,
    )


def of_docker(directory: Path, socket: Path, image: str, *arguments: str) -> RunningGadget:
    """A gadget that asks the engine at *socket* alone, and writes JSON."""
    flags = ("--verify-image=false", f"--docker-socketpath={socket}", "-r", "docker", "-o", "json")
    return RunningGadget(directory, image, *flags, *arguments)


class RunningGadget:
    """A context manager: ends the process when left, whatever happened."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._out, self._err = directory / "out", directory / "err"
        self.argv = [IG_PY, "run", *arguments, "-v"]

    def __enter__(self) -> RunningGadget:
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        return self

    def __exit__(self, *_args: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def raw(self) -> bytes:
        return self._out.read_bytes()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def wait_running(self, seconds: float = 60) -> None:
        def attached() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.err}")
            return RUNNING in self.err

        wait_for(attached, "the gadget runs", seconds)

    def end(self, number: int = signal.SIGINT, seconds: float = 30) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(deadline(seconds))

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def executions(self) -> list[tuple[str, str]]:
        """The container's name and the command line of each event of our gadget."""
        return [
            (e["runtime"]["containerName"], e["args"].replace(SEPARATOR, " "))
            for e in self.events()
        ]

    def account(self) -> tuple[int, int]:
        """(emitted, lost) of the last line on stderr."""
        words = self.err.splitlines()[-1].split()
        return int(words[1]), int(words[4])
