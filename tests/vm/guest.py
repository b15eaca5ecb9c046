"""One VM: boots a kernel over the host's file system, runs one command, is gone."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernels import Kernel

CHECKOUT = Path(__file__).resolve().parents[2]
_INSIDE = Path(__file__).with_name("inside.sh")
_MEMORY = "4G"
_BOOT_SECONDS = 180
_BOOTS = 2
"""Emulated kernels sometimes panic before they run anything; a command that ran is not repeated."""
_POLL_SECONDS = 0.5
_STOP_SECONDS = 10
_TAIL_LINES = 15


_HIDDEN = ("/dev", "/proc", "/run", "/sys", "/var/cache", "/var/log", "/var/tmp")
"""Where virtme-ng mounts file systems of the guest over those of the host."""


def why_hidden(path: Path) -> str | None:
    """Why no guest sees *path* of the host; None when guests see it."""
    for place in _HIDDEN:
        if path.is_relative_to(place):
            return f"the checkout is in {place}, which is the guest's own there: move it elsewhere"
    return None


def end_with_sigterm_too() -> None:
    """Let SIGTERM unwind like Ctrl-C, so that no emulator stays behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


class GuestError(Exception):
    """The guest did not boot, panicked, or ran out of time."""


@dataclass(frozen=True)
class Result:
    """*status* is the command's exit code, *log* its output, *seconds* from power-on to off."""

    status: int
    log: str
    seconds: float


class Guest:
    """A VM with *kernel*; *out* is the one directory that the guest can write to."""

    def __init__(self, kernel: Kernel, out: Path, echo: Callable[[str], None] = lambda _: None):
        self._kernel = kernel
        self._out = out
        self._echo = echo
        self._seen = 0

    def run(self, command: Sequence[str], environment: dict[str, str], seconds: int) -> Result:
        """Run *command* in the checkout, at most *seconds* after boot.

        Raises GuestError with the end of the console when the guest gave no exit status.
        """
        why = ""
        for _ in range(_BOOTS):
            started = time.monotonic()
            why = self._boot(self._argv(command, environment), started, seconds)
            if (self._out / "log").exists():
                break
        self._follow()
        status = self._out / "exit"
        if not status.exists():
            raise GuestError(f"{why or 'the guest ended without a result'}\n{self._console()}")
        return Result(int(status.read_text()), self._log(), time.monotonic() - started)

    def _boot(self, argv: list[str], started: float, seconds: int) -> str:
        """Until the guest ends; why it had to be ended, else nothing."""
        with (self._out / "console").open("wb") as console:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                return self._wait(process, started, seconds)
            finally:
                _end(process)

    def _argv(self, command: Sequence[str], environment: dict[str, str]) -> list[str]:
        kernel = self._kernel
        settings = [f"{name}={value}" for name, value in environment.items()]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ig-py"
        inner = [str(_INSIDE), str(self._out), str(kernel.root), str(CHECKOUT), str(cache)]
        return [
            str(Path(sys.executable).with_name("virtme-run")),
            *("--kimg", str(kernel.image), "--mods", "auto"),
            # Two virtual CPUs sometimes panic under emulation.
            *("--cpus", "1", "--memory", _MEMORY, "--disable-kvm", "--force-9p"),
            # An enabled AppArmor without its parser keeps Docker from starting containers.
            *("--kopt", "apparmor=0"),
            # Under emulation, memory at a random place sometimes ends in a panic before boot.
            *("--kopt", "nokaslr"),
            *("--user", "root", "--rwdir", str(self._out), "--show-boot-console"),
            *("--script-sh", shlex.join([*inner, "env", *settings, *command])),
        ]

    def _wait(self, process: subprocess.Popen[bytes], started: float, seconds: int) -> str:
        log = self._out / "log"
        booted: float | None = None
        while process.poll() is None:
            now = time.monotonic()
            if booted is None and log.exists():
                booted = now
            if booted is None and now - started > _BOOT_SECONDS:
                return f"the guest did not boot within {_BOOT_SECONDS} s"
            if booted is not None and now - booted > seconds:
                return f"the command did not end within {seconds} s"
            self._follow()
            time.sleep(_POLL_SECONDS)
        return ""

    def _log(self) -> str:
        try:
            return (self._out / "log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _follow(self) -> None:
        lines = self._log().splitlines(keepends=True)
        complete = [line for line in lines if line.endswith("\n")]
        for line in complete[self._seen :]:
            self._echo(line.rstrip("\n"))
        self._seen = len(complete)

    def _console(self) -> str:
        text = (self._out / "console").read_text(errors="replace")
        return "\n".join([*self._log().splitlines(), *text.splitlines()][-_TAIL_LINES:])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End qemu with its launcher: both are in the process group that was made for them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
