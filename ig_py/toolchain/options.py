"""What a build is asked for, and the files that it makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ig_py.records import dataclass
from ig_py.toolchain.compile import ARCHITECTURES


def _ignore(_: str) -> None:
    pass


@dataclass(frozen=True)
class BuildOptions:
    """What to build and how.

    ``path`` is the gadget's directory; ``file`` its build file, relative to the working
    directory (None: ``build.yaml`` in *path*, if there). ``output`` is an existing
    directory that receives the objects. ``builder_image`` compiles in a container instead
    of with a local clang. ``architectures``: which objects to make; an image for others too
    has all of them. ``log`` gets messages for the user, possibly of several lines,
    ``debug`` the commands.
    """

    path: str | Path
    file: str | None = None
    output: str | Path | None = None
    update_metadata: bool = False
    validate_metadata: bool = True
    builder_image: str | None = None
    builder_image_pull: str = "missing"
    btfgen: bool = False
    btfhub_archive: str | Path | None = None
    architectures: tuple[str, ...] = ARCHITECTURES
    log: Callable[[str], None] = _ignore
    debug: Callable[[str], None] = _ignore


@dataclass(frozen=True)
class Built:
    """Files of a build in its temporary directory; None for what the gadget lacks."""

    objects: dict[str, Path]
    wasm: Path | None
    btfgen: dict[str, Path]
