"""Where generated headers are kept between builds."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ig_py.errors import BuildError
from ig_py.host.removal import remove_tree


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/ig-py``, by default ``~/.cache/ig-py`` (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not Path(base).is_absolute():
        base = str(Path.home() / ".cache")
    return Path(base) / "ig-py"


def ensure_dir(name: str, fill: Callable[[Path], None]) -> Path:
    """The cached directory *name*, made by *fill* when it does not exist.

    It appears complete or not at all; of several processes that want it, one makes it.

    Raises:
        BuildError: The cache cannot be written.
    """
    return _make(name, fill, replace=False)


def replace_dir(name: str, fill: Callable[[Path], None]) -> Path:
    """As :func:`ensure_dir`, but an existing directory is replaced."""
    return _make(name, fill, replace=True)


def _make(name: str, fill: Callable[[Path], None], *, replace: bool) -> Path:
    target = cache_dir() / name
    if not replace and target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent / f".{target.name}.lock"):
            if not replace and target.is_dir():
                return target
            _sweep(target)
            new = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
            try:
                new.chmod(0o755)
                fill(new)
                if target.is_dir():
                    # A directory cannot replace one that has content.
                    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
                    target.rename(old / "replaced")
                    new.rename(target)
                    remove_tree(old)
                else:
                    new.rename(target)
            finally:
                remove_tree(new)
    except OSError as e:
        raise BuildError(
            f"writing the cache {target}: {e.strerror or e}",
            remedy="set XDG_CACHE_HOME to a writable directory",
        ) from None
    return target


def _sweep(target: Path) -> None:
    """Remove what a killed process left beside *target*, whose lock is held."""
    left = re.compile(re.escape(f".{target.name}-") + "[a-z0-9_]{8}")
    for path in target.parent.iterdir():
        if left.fullmatch(path.name):
            remove_tree(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
