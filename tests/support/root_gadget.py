"""The root gadget's image as a tar, built once for whoever asks.

``IG_PY_TEST_IMAGE`` names one that is already built: an emulated guest compiles too slowly.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

IMAGE_VARIABLE = "IG_PY_TEST_IMAGE"
_CHECKOUT = Path(__file__).resolve().parents[2]
_BUILD_SECONDS = 300


class NoImage(Exception):
    """The root gadget could not be built; ig-py has said why on stderr."""


def _ig_py(*arguments: str) -> None:
    argv = [str(Path(sys.executable).with_name("ig-py")), *arguments]
    done = subprocess.run(
        argv, cwd=_CHECKOUT, check=False, timeout=_BUILD_SECONDS, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise NoImage(f"ig-py {' '.join(arguments[:2])} ended with {done.returncode}")


def image_tar(directory: Path) -> Path:
    """Path of an image tar of the root gadget, in *directory* when it has to be built.

    Raises NoImage.
    """
    given = os.environ.get(IMAGE_VARIABLE)
    if given:
        return Path(given)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "trace_exec.tar"
    reference = f"ig-py-test.local/trace_exec:{os.getpid()}"
    _ig_py("image", "build", ".", "-t", reference)
    try:
        _ig_py("image", "export", reference, str(path))
    finally:
        _ig_py("image", "remove", reference)
    return path
