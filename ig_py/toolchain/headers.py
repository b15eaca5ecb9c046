"""The C headers of the wheel, as files that a compiler can read."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from ig_py.errors import BuildError, IgPyError
from ig_py.toolchain import cache

_CHECKOUT = Path(__file__).resolve().parent.parent.parent


def headers() -> dict[str, bytes]:
    """``bpf/*.h`` and ``gadget/*.h``: path below an include directory -> content.

    They are part of the native core. In a source checkout the checkout's own
    ``build/include`` wins, so that a change needs no rebuild of the core.
    """
    from ig_py._core import headers

    found = dict(headers())
    own = _CHECKOUT / "build" / "include"
    if (_CHECKOUT / "pyproject.toml").is_file() and own.is_dir():
        found = {name: data for name, data in found.items() if not name.startswith("gadget/")}
        for path in own.glob("gadget/*.h"):
            found[path.relative_to(own).as_posix()] = path.read_bytes()
    if not any(name.startswith("gadget/") for name in found):
        raise BuildError(
            "finding the eBPF API headers: this installation of ig-py has none",
            remedy="install ig-py again",
        )
    return found


def write(directory: Path) -> None:
    """Write all headers below *directory*."""
    for name, data in headers().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def include_dir() -> Path:
    """A cached directory with the headers; another content is another directory."""
    digest = hashlib.sha256()
    for name, data in sorted(headers().items()):
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return cache.ensure_dir(f"include/{digest.hexdigest()[:16]}", write)


def main() -> int:
    """``python -m ig_py.toolchain.headers --to DIR``."""
    parser = argparse.ArgumentParser(
        prog="python -m ig_py.toolchain.headers", description="Write the C headers of ig-py."
    )
    parser.add_argument("--to", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    try:
        write(options.to)
    except (IgPyError, OSError) as e:
        print(f"Error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
