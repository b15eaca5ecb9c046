"""Another build of ig-py, out of its wheel: what a change is compared with."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import zipfile
from pathlib import Path

_SECONDS = 60


class NoBase(Exception):
    """The wheel cannot be used; the message says why."""


_ENTRY = "import sys; from ig_py.cli import main; sys.exit(main())"


def command(directory: Path) -> tuple[str, ...]:
    """How the ``ig-py`` of the wheel that is unpacked below *directory* is called: its own script,
    installed as pip does, or the entry point that earlier wheels name."""
    scripts = next(directory.glob("*.data/scripts"), None)
    if scripts is None:
        return (sys.executable, "-P", "-c", _ENTRY)
    for script in scripts.iterdir():
        first, newline, rest = script.read_text().partition("\n")
        if first == "#!python":
            script.write_text(f"#!{sys.executable}{newline}{rest}")
        script.chmod(0o755)
    return (str(scripts / "ig-py"),)


def unpack(wheel: Path, directory: Path) -> dict[str, str]:
    """The environment in which this Python's ``ig-py`` is the one of *wheel*, unpacked below
    *directory*; its dependencies are this environment's. Raises NoBase."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(directory)
    except (OSError, zipfile.BadZipFile) as error:
        raise NoBase(f"{wheel} cannot be read as a wheel: {error}") from error
    # As pip does: otherwise the first run would compile.
    compileall.compile_dir(directory, quiet=2)
    environment = {**os.environ, "PYTHONPATH": str(directory)}
    code = "import ig_py, ig_py._core; print(ig_py.__file__); print(ig_py._core.__spec__.origin)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise NoBase(f"{wheel} does not run with this Python: {last}")
    for file in done.stdout.splitlines():
        if not Path(file).is_relative_to(directory):
            raise NoBase(f"{wheel} has no ig_py: {file} would be measured")
    return environment
