"""``--btfgen``: the types of old kernels, cut down to what a gadget's objects use.

Facts: docs/building.md#the-build-file.

Input is a btfhub-archive checkout: ``ID/VERSION/ARCH/KERNEL.btf.tar.xz``. Output is one
``.tar.gz`` an architecture whose members are ``ID/VERSION/ARCH/KERNEL.btf``, the path under
which a runner looks for its kernel.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ig_py.errors import BuildError
from ig_py.toolchain.process import run
from ig_py.toolchain.sources import open_source

KERNEL_ARCH = {"amd64": "x86_64", "arm64": "arm64"}
SUFFIX = ".btf.tar.xz"
MAX_BTF = 64 << 20


def build_btfgen(
    archive: Path, objects: Mapping[str, Path], scratch: Path, debug: Callable[[str], None]
) -> dict[str, Path]:
    """The archive of each architecture of *objects*, below *scratch*.

    Raises:
        BuildError: There is no bpftool, or *archive* has nothing for an architecture.
    """
    bpftool = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin")
    if bpftool is None:
        raise BuildError(
            "building with --btfgen: bpftool is not installed",
            remedy="install it (Debian: bpftool)",
        )
    if not archive.is_dir():
        raise BuildError(
            f"building with --btfgen: {archive}: no such directory",
            remedy="give a checkout of btfhub-archive with --btfhub-archive",
        )
    return {
        arch: _one(bpftool, archive, arch, obj, scratch, debug) for arch, obj in objects.items()
    }


def _one(
    bpftool: str,
    archive: Path,
    arch: str,
    obj: Path,
    scratch: Path,
    debug: Callable[[str], None],
) -> Path:
    members: list[tuple[str, Path]] = []
    full = scratch / "full.btf"
    for packed, name in _kernels(archive, KERNEL_ARCH[arch]):
        _unpack(archive, packed, full)
        small = scratch / "btfs" / name
        small.parent.mkdir(parents=True, exist_ok=True)
        argv = [bpftool, "gen", "min_core_btf", str(full), str(small), str(obj)]
        debug(" ".join(argv))
        run(argv, f"cutting down {name} for {arch}")
        members.append((name, small))
        full.unlink()
    if not members:
        raise BuildError(
            f"building with --btfgen: {archive} has no *{SUFFIX} for {KERNEL_ARCH[arch]}"
        )
    output = scratch / f"btfs-{KERNEL_ARCH[arch]}.tar.gz"
    output.write_bytes(_pack(members))
    return output


def _kernels(archive: Path, kernel_arch: str) -> Iterator[tuple[str, str]]:
    """Archives below ``*/*/ARCH/`` with the member name that each becomes."""
    for path in sorted(archive.glob(f"*/*/{kernel_arch}/*{SUFFIX}")):
        if path.is_file():
            relative = path.relative_to(archive)
            name = relative.name.removesuffix(SUFFIX) + ".btf"
            yield relative.as_posix(), (relative.parent / name).as_posix()


def _unpack(archive: Path, packed: str, target: Path) -> None:
    try:
        with (
            open_source(archive, packed, "types of a kernel") as raw,
            tarfile.open(fileobj=raw, mode="r:xz") as tar,
        ):
            for member in tar:
                file = tar.extractfile(member) if member.name.endswith(".btf") else None
                if file is not None and member.size <= MAX_BTF:
                    with target.open("wb") as out:
                        shutil.copyfileobj(file, out)
                    return
    except (tarfile.TarError, OSError, EOFError) as e:
        raise BuildError(f"unpacking {packed}: {e}") from None
    raise BuildError(f"unpacking {packed}: there is no .btf in it")


def _pack(members: list[tuple[str, Path]]) -> bytes:
    """A tar.gz without times, owners or modes of this machine: builds are reproducible."""
    raw = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, path in sorted(members):
            info = tarfile.TarInfo(name)
            info.size = path.stat().st_size
            info.mode = 0o644
            with path.open("rb") as file:
                tar.addfile(info, file)
    return raw.getvalue()
