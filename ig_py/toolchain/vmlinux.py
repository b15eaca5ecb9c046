"""vmlinux.h, the kernel's types as a C header, one for each architecture.

Types of one architecture say nothing about another (``pt_regs``, system call wrappers,
sizes), so each header comes from kernels of its own architecture: from Debian's cloud kernel, so
that the same source builds on every machine, and for the machine's own architecture also from the
running kernel, which adds the types that only it has. A header is made once and kept: objects built
tomorrow, after a kernel update, are still the same bytes.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ig_py.errors import BuildError, IgPyError
from ig_py.host.safe_open import read_argument
from ig_py.toolchain import cache, debian, kernel_btf

ARCHITECTURES = ("amd64", "arm64")
MAX_IMAGE = 1 << 30
"""Bytes of a kernel image with its debug information."""
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

_HEAD = """\
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

/* Types of {source} */

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

"""
_MADE_OF = b"\n/* Types of "
"""In a header of this version; those of versions before it have the types of one kernel only."""
_TAIL = """
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif
"""


def host_arch() -> str | None:
    """This machine's architecture as images name it; None when gadgets have no such."""
    return _MACHINES.get(platform.machine())


def include_dir(arch: str, log: Callable[[str], None] = lambda _: None) -> Path:
    """The cached directory that holds ``vmlinux.h`` for *arch*, made when it is missing.

    Raises:
        BuildError: No kernel of that architecture can be had.
    """
    _check(arch)
    place = cache.ensure_dir(_name(arch), lambda d: _write(d, _kernels(arch, log)))
    if _is_of_one_kernel(place / "vmlinux.h"):
        try:
            return refresh(arch, log)
        except BuildError as e:
            log(f"Using the types that an earlier version of ig-py kept for {arch} ({e.message})")
    return place


def generate(arch: str, image: bytes, source: str) -> Path:
    """Make (or replace) the header for *arch* from raw BTF or a kernel image."""
    _check(arch)
    kernel = (kernel_btf.find_btf(image, source), source)
    return cache.replace_dir(_name(arch), lambda d: _write(d, [kernel]))


def refresh(arch: str, log: Callable[[str], None], *, running: bool = True) -> Path:
    """Replace the header for *arch* by a new one of the usual origin.

    Without *running* it is Debian's kernel also for this machine's architecture.
    """
    _check(arch)
    kernels = _kernels(arch, log) if running else [_debian_btf(arch, log)]
    return cache.replace_dir(_name(arch), lambda d: _write(d, kernels))


def render(kernels: Sequence[tuple[bytes, str]]) -> str:
    """The text of a vmlinux.h with the types of *kernels*: BTF, and a name for the comment.

    A type that several have is the first one's.
    """
    from ig_py.toolchain import c_types

    body = c_types.merged(_declarations(btf, source) for btf, source in kernels)
    named = ", ".join(source for _, source in kernels)
    comment = "".join(c for c in named if c.isprintable()).replace("*/", "* /")
    return _HEAD.format(source=comment) + body + _TAIL


def _declarations(btf: bytes, source: str) -> str:
    from ig_py._core import CoreError, btf_to_c

    try:
        return btf_to_c(btf)
    except CoreError as e:
        raise BuildError(f"generating vmlinux.h from {source}: {e.message}") from None


def _is_of_one_kernel(header: Path) -> bool:
    try:
        with header.open("rb") as file:
            return _MADE_OF not in file.read(len(_HEAD))
    except OSError:
        return False  # the compiler says why it cannot be read


def _kernels(arch: str, log: Callable[[str], None]) -> list[tuple[bytes, str]]:
    """BTF and name of Debian's kernel and, for the machine's architecture, of the running one."""
    running: list[tuple[bytes, str]] = []
    if arch == host_arch() and kernel_btf.SYSFS_BTF.is_file():
        try:
            raw = kernel_btf.SYSFS_BTF.read_bytes()
        except OSError as e:
            log(f"Cannot read {kernel_btf.SYSFS_BTF}: {e.strerror or e}")
        else:
            running = [(raw, f"Linux {platform.release()} {arch}")]
    try:
        return [_debian_btf(arch, log), *running]
    except BuildError as e:
        if not running:
            raise
        missing = kernel_btf.missing_names(running[0][0])
        lacks = f", which lacks {', '.join(missing)}" if missing else ""
        log(
            f"Using the types of the running kernel only{lacks}: gadgets that need others will not "
            f"compile ({e.message})"
        )
        return running


def _debian_btf(arch: str, log: Callable[[str], None]) -> tuple[bytes, str]:
    image, package = debian.kernel_image(arch, log)
    return kernel_btf.find_btf(image, package), f"{package} {arch}"


def _write(directory: Path, kernels: Sequence[tuple[bytes, str]]) -> None:
    (directory / "vmlinux.h").write_text(render(kernels))


def _name(arch: str) -> str:
    return f"vmlinux/{arch}"


def _check(arch: str) -> None:
    if arch not in ARCHITECTURES:
        raise BuildError(
            f"finding vmlinux.h: unknown architecture {arch!r}",
            remedy=f"known are {', '.join(ARCHITECTURES)}",
        )


def main(argv: list[str] | None = None) -> int:
    """``python -m ig_py.toolchain.vmlinux``: prints the directory of each header."""
    parser = argparse.ArgumentParser(
        prog="python -m ig_py.toolchain.vmlinux",
        description="Make vmlinux.h for gadget builds, where it does not exist yet.",
    )
    parser.add_argument(
        "--arch", action="append", choices=ARCHITECTURES, help="default: all architectures"
    )
    parser.add_argument(
        "--vmlinux-btf",
        type=Path,
        metavar="FILE",
        help="raw BTF, or a kernel image that holds it; needs one --arch",
    )
    parser.add_argument("--refresh", action="store_true", help="replace what exists")
    parser.add_argument(
        "--debian",
        action="store_true",
        help="replace what exists by the types of Debian's kernel, whatever kernel runs here: "
        "machines that all do so build the same objects",
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="copy to DIR/ARCH/vmlinux.h too")
    options = parser.parse_args(argv)
    arches = options.arch or list(ARCHITECTURES)
    if options.vmlinux_btf and len(arches) != 1:
        parser.error("--vmlinux-btf needs exactly one --arch")

    def log(message: str) -> None:
        print(message, file=sys.stderr)

    try:
        for arch in arches:
            if options.vmlinux_btf:
                image = read_argument(options.vmlinux_btf, most=MAX_IMAGE)
                directory = generate(arch, image, options.vmlinux_btf.name)
            elif options.refresh or options.debian:
                directory = refresh(arch, log, running=not options.debian)
            else:
                directory = include_dir(arch, log)
            if options.to:
                copy = options.to / arch
                copy.mkdir(parents=True, exist_ok=True)
                (copy / "vmlinux.h").write_bytes((directory / "vmlinux.h").read_bytes())
            print(directory)
    except (IgPyError, OSError) as e:
        print(f"Error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
