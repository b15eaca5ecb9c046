"""Debian kernels for the VMs: found by apt, unpacked into a cache, never installed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_DOWNLOAD_SECONDS = 900
_LOOKUP_SECONDS = 60
_SERIES = re.compile(r"\d+\.\d+")


class NoKernel(Exception):
    """No such kernel can be had here; the message says why."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: *root* holds ``boot/`` and ``lib/modules/RELEASE``."""

    series: str
    release: str
    root: Path

    @property
    def image(self) -> Path:
        return self.root / "boot" / f"vmlinuz-{self.release}"


def _run(argv: list[str], seconds: int, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            argv, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=True
        )
    except FileNotFoundError as error:
        raise NoKernel(f"{argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise NoKernel(f"{argv[0]} gave no answer within {seconds} s") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:]
        raise NoKernel(f"{' '.join(argv[:2])} failed: {' '.join(last)}") from error
    return done.stdout


def _packages(series: str) -> list[str]:
    """Names of Debian's signed, full-flavour amd64 kernels of *series*, newest first."""
    pattern = re.compile(rf"linux-image-({re.escape(series)}\.\d+\S*?)-amd64")
    found = []
    for name in _run(["apt-cache", "pkgnames", f"linux-image-{series}."], _LOOKUP_SECONDS).split():
        match = pattern.fullmatch(name)
        if match and not re.search(r"-(cloud|rt)$", match[1]):
            found.append((tuple(int(n) for n in re.findall(r"\d+", match[1])), name))
    return [name for _, name in sorted(found, reverse=True)]


def _unpacked(cache: Path, series: str) -> Kernel | None:
    for marker in sorted(cache.glob(f"linux-image-{series}.*/.complete"), reverse=True):
        release = marker.read_text().strip()
        kernel = Kernel(series, release, marker.parent)
        if kernel.image.exists():
            return kernel
    return None


def _fetch(cache: Path, package: str, series: str) -> Kernel:
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as work:
        directory = Path(work)
        # apt's download sandbox user cannot write into a root-owned directory: it only warns.
        _run(["apt-get", "download", "-q", package], _DOWNLOAD_SECONDS, cwd=directory)
        [archive] = directory.glob("*.deb")
        root = directory / "root"
        _run(["dpkg-deb", "--extract", str(archive), str(root)], _DOWNLOAD_SECONDS)
        [image] = (root / "boot").glob("vmlinuz-*")
        release = image.name.removeprefix("vmlinuz-")
        _run(["depmod", "-b", str(root), release], _DOWNLOAD_SECONDS)
        (root / ".complete").write_text(release + "\n")
        target = cache / package
        shutil.rmtree(target, ignore_errors=True)
        root.rename(target)
    return Kernel(series, release, target)


def ensure(series: str, cache: Path) -> Kernel:
    """The kernel of *series* (``6.12``) below *cache*, downloaded when it is not there.

    Raises NoKernel when apt knows none or cannot fetch it.
    """
    if not _SERIES.fullmatch(series):
        raise NoKernel(f"{series!r} is no kernel series such as 6.12")
    cache.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kernel = _unpacked(cache, series)
        if kernel:
            return kernel
        packages = _packages(series)
        if not packages:
            _run(["apt-get", "update", "-q"], _DOWNLOAD_SECONDS)
            packages = _packages(series)
        if not packages:
            raise NoKernel(f"apt knows no linux-image-{series}.*-amd64 package")
        try:
            return _fetch(cache, packages[0], series)
        except NoKernel:
            # A package list older than the archive names files that are gone.
            _run(["apt-get", "update", "-q"], _DOWNLOAD_SECONDS)
            return _fetch(cache, _packages(series)[0], series)
