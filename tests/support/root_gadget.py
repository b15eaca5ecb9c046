"""Images of the root gadget and of other gadgets as tars, built when they are needed.

``IG_PY_TEST_IMAGES`` names a directory with some that are already built: an emulated guest
compiles too slowly.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from support.running_gadget import IG_PY

IMAGES_VARIABLE = "IG_PY_TEST_IMAGES"
_CHECKOUT = Path(__file__).resolve().parents[2]
_BUILD_SECONDS = 300


class NoImage(Exception):
    """The gadget could not be built; ig-py has said why on stderr."""


def _ig_py(store: str, *arguments: str) -> None:
    argv = [IG_PY, *arguments]
    done = subprocess.run(
        argv,
        cwd=_CHECKOUT,
        env={**os.environ, "IG_PY_STORE": store},
        check=False,
        timeout=_BUILD_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise NoImage(f"ig-py {' '.join(arguments[:2])} ended with {done.returncode}")


def image_tar(directory: Path, source: Path = _CHECKOUT) -> Path:
    """Path of an image tar of the gadget in *source*, in *directory* when it has to be built.

    Raises NoImage.
    """
    name = "trace_exec.tar" if source == _CHECKOUT else f"{source.name}.tar"
    given = os.environ.get(IMAGES_VARIABLE)
    if given and (path := Path(given) / name).exists():
        return path
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    reference = f"ig-py-test.local/{path.stem}:1"
    # Not the machine's store: others may hold its lock.
    with tempfile.TemporaryDirectory(prefix="ig-py-store-") as store:
        _ig_py(store, "image", "build", str(source), "-t", reference)
        _ig_py(store, "image", "export", reference, str(path))
    return path
