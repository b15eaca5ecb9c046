"""The loads that tools are measured under: opens of one file at a known rate."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

UID = 61234
"""The load's user: the gadget selects exactly its events."""
WARM_FILE = "/dev/zero"
LOAD_FILE = "/dev/null"
REST_SECONDS = 10.0
_SOURCE = Path(__file__).resolve().parent / "load.c"


class BenchError(Exception):
    """A measurement cannot be made; the message says why."""


@dataclass(frozen=True)
class Load:
    """*count* opens at *rate* a second; rate 0: flat out; count 0: none, for REST_SECONDS."""

    name: str
    count: int
    rate: int


LOADS = (
    Load("rest", 0, 0),
    Load("100/s", 1_000, 100),
    Load("5000/s", 50_000, 5_000),
    Load("20000/s", 100_000, 20_000),
    Load("flat out", 300_000, 0),
)


@dataclass(frozen=True)
class Produced:
    """``opens`` made in ``seconds``."""

    opens: int
    seconds: float


def run(argv: list[str], environment: dict[str, str] | None = None) -> str:
    """The standard output of *argv*. Raises BenchError with the end of what it said."""
    try:
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise BenchError(f"{argv[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise BenchError(f"{' '.join(argv[:3])} failed with {done.returncode}: {said}")
    return done.stdout


def build(directory: Path) -> str:
    """The path of the program that makes loads. Raises BenchError."""
    return compiled(_SOURCE, directory)


def compiled(source: Path, directory: Path) -> str:
    """The path of the static program made from *source*. Raises BenchError."""
    cc = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not cc:
        raise BenchError(f"building {source.name}: no C compiler (cc, gcc, clang) is installed")
    binary = str(directory / source.stem)
    run([cc, "-O2", "-static", "-pthread", "-o", binary, str(source)])
    return binary


def make(binary: str, load: Load) -> Produced:
    """Make *load* and wait for its end. Raises BenchError."""
    if not load.count:
        time.sleep(REST_SECONDS)
        return Produced(0, REST_SECONDS)
    said = run([binary, "open", str(load.count), str(load.rate), str(UID), "1", LOAD_FILE])
    result = json.loads(said)
    return Produced(int(result["produced"]), float(result["seconds"]))


def warm(binary: str) -> None:
    """One open of another file: shows that a tool is attached. Raises BenchError."""
    run([binary, "open", "1", "0", str(UID), "1", WARM_FILE])
