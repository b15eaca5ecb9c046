"""The installed command as it is in this checkout, whatever the environment has installed."""

from __future__ import annotations

import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "build/data/scripts"


def install(directory: Path) -> str:
    """Write the scripts into *directory* as an installer does; the path of ``ig-py``."""
    for script in SCRIPTS.iterdir():
        text = script.read_text()
        if text.startswith("#!python\n"):
            text = f"#!{sys.executable}\n" + text.removeprefix("#!python\n")
        target = directory / script.name
        target.write_text(text)
        target.chmod(0o755)
    return str(directory / "ig-py")
