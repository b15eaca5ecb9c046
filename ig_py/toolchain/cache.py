"""Where generated headers are kept between builds."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ig_py.errors import BuildError


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/ig-py``, by default ``~/.cache/ig-py`` (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not Path(base).is_absolute():
        base = str(Path.home() / ".cache")
    return Path(base) / "ig-py"


def ensure_dir(name: str, fill: Callable[[Path], None]) -> Path:
    """The cached directory *name*, made by *fill* when it does not exist.

    It appears complete or not at all, also when several processes make it at once.
    Raises BuildError when the cache cannot be written.
    """
    target = cache_dir() / name
    if target.is_dir():
        return target
    return replace_dir(name, fill)


def replace_dir(name: str, fill: Callable[[Path], None]) -> Path:
    """As :func:`ensure_dir`, but an existing directory is replaced."""
    target = cache_dir() / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            new.chmod(0o755)
            fill(new)
            _swap(new, target)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as e:
        raise BuildError(
            f"writing the cache {target}: {e.strerror or e}",
            remedy="set XDG_CACHE_HOME to a writable directory",
        ) from None
    return target


def _swap(new: Path, target: Path) -> None:
    try:
        new.rename(target)
        return
    except OSError:
        if not target.is_dir():
            raise
    # A directory cannot replace one that has content: move that one into ours first, which the
    # caller removes.
    target.rename(new / ".replaced")
    shutil.rmtree(new / ".replaced")
    new.rename(target)
