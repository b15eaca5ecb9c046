"""The two tools: how each gets the image, and how each runs it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support import tracer
from support.processes import end, tail
from support.waiting import deadline

_COMMAND_SECONDS = 120
_MAX_INDEX = 1 << 20
_REF_NAME = "org.opencontainers.image.ref.name"


class ToolError(Exception):
    """One of the tools failed; the message says which and how."""


@dataclass(frozen=True)
class Tool:
    """A tool with the image in its reach: *reference* is what it runs, *digest* what it has."""

    name: str
    program: Path
    reference: str
    digest: str
    prefix: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


def _call(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=deadline(_COMMAND_SECONDS),
        )
    except OSError as error:
        raise ToolError(f"{argv[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(
            f"{' '.join(argv[:3])} gave no answer within {error.timeout:.0f} s"
        ) from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise ToolError(f"{' '.join(argv[:3])} failed: {' '.join(last)}")
    return done.stdout


def _tar_index(tar: Path) -> tuple[str, str]:
    """Name and digest of the one image in *tar*."""
    try:
        with tarfile.open(tar) as archive:
            member = archive.extractfile("index.json")
            raw = member.read(_MAX_INDEX) if member else b""
        entries = json.loads(raw)["manifests"]
        [tagged] = [entry for entry in entries if _REF_NAME in entry.get("annotations", {})]
        return str(tagged["annotations"][_REF_NAME]), str(tagged["digest"])
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise ToolError(f"{tar} is not an image tar with one tagged image: {error}") from error


def for_ig_py(program: Path, tar: Path) -> Tool:
    """ig-py takes the path as it is."""
    _, digest = _tar_index(tar)
    return Tool("ig-py", program, str(tar), digest)


def _isolation() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What ig needs on a bare host: a first process that it may look at, mounted tracefs.

    Both are given to it in namespaces of its own, so that the host stays as it was.
    """
    try:
        Path("/proc/1/ns/mnt").stat()
        bare = not any(Path("/sys/kernel/tracing").iterdir())
    except OSError:
        bare = True
    if not bare:
        return (), ()
    return ("unshare", "--mount", "--pid", "--fork", "--mount-proc"), ("--auto-mount-filesystems",)


@contextlib.contextmanager
def for_ig(program: Path, tar: Path) -> Iterator[Tool]:
    """ig takes no paths: the image is imported into its store, and removed afterwards."""
    name, digest = _tar_index(tar)
    ig = str(program)
    before = _listed_digest(ig, name)
    if before not in (None, digest):
        raise ToolError(f"ig already has another image named {name}: remove it first")
    _call([ig, "image", "import", str(tar)])
    try:
        listed = _listed_digest(ig, name)
        if listed is None:
            raise ToolError(f"ig does not list {name} after importing it")
        yield Tool("ig", program, name, listed, *_isolation())
    finally:
        if before is None:
            _call([ig, "image", "remove", name])


def _listed_digest(ig: str, name: str) -> str | None:
    """The digest that ig lists for *name*; it shows names without their usual prefix."""
    for line in _call([ig, "image", "list", "--no-trunc"]).splitlines()[1:]:
        cells = line.split()
        if len(cells) < 3:
            continue
        shown = f"{cells[0]}:{cells[1]}"
        if shown == name or name.endswith(f"/{shown}"):
            return cells[2]
    return None


class Run:
    """One tool running the gadget; its events go to a file."""

    def __init__(self, tool: Tool, arguments: Sequence[str], directory: Path) -> None:
        self.tool = tool
        self._output = directory / f"{tool.name}.json"
        self._messages = directory / f"{tool.name}.messages"
        argv = [*tool.prefix, str(tool.program), "run", tool.reference, *tool.flags, *arguments]
        with self._output.open("wb") as sink, self._messages.open("wb") as messages:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=messages
            )

    def _pid(self) -> int:
        """The tool's own process: the last of the chain of single children."""
        pid = self._process.pid
        while self.tool.prefix and (below := tracer.children(pid)):
            pid = below[0]
        return pid

    def keep(self, directory: Path) -> None:
        """Copy events and messages into *directory*."""
        for path in (self._output, self._messages):
            shutil.copy(path, directory)

    def lines(self) -> list[str]:
        """Complete lines so far; ToolError when the tool has ended."""
        if self._process.poll() not in (None, 0):
            raise ToolError(
                f"{self.tool.name} ended early with {self._process.returncode}\n"
                f"{tail(self._messages)}"
            )
        text = self._output.read_text(errors="surrogateescape")
        return text[: text.rfind("\n") + 1].splitlines()

    def stop(self) -> None:
        """SIGINT, as a person at a terminal; ToolError unless it exits with 0."""
        os.kill(self._pid(), signal.SIGINT)
        try:
            status = self._process.wait(deadline(30))
        except subprocess.TimeoutExpired as error:
            raise ToolError(f"{self.tool.name} did not stop on SIGINT") from error
        if status:
            raise ToolError(f"{self.tool.name} ended with {status}\n{tail(self._messages)}")

    def close(self) -> None:
        if self._process.poll() is None:
            os.kill(self._pid(), signal.SIGTERM)
        end(self._process)
