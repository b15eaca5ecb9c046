"""The BTF of a kernel: from sysfs, or found inside a kernel image.

A kernel built with CONFIG_DEBUG_INFO_BTF carries its types between __start_BTF and
__stop_BTF of its data: a 24-byte header (``struct btf_header``), types and strings. In an
uncompressed image (arm64) the header can be searched for; a compressed one (x86) is
unpacked first.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from ig_py.errors import BuildError

SYSFS_BTF = Path("/sys/kernel/btf/vmlinux")
MAX_IMAGE = 512 << 20
"""Largest kernel image, packed or unpacked, in bytes."""
MIN_BTF = 256 * 1024
"""Smallest size of a kernel's BTF, which is some megabytes; split BTF of modules is smaller."""
MAX_BTF = 64 << 20

_HEADER = struct.Struct("<HBBIIIII")
_MAGIC = b"\x9f\xeb\x01\x00" + struct.pack("<I", _HEADER.size)

REQUIRED_NAMES = (
    "BPF_FUNC_cgrp_storage_delete",
    "bpf_iter__bpf_map_elem",
    "bpf_iter__ksym",
    "bpf_iter__task",
    "bpf_iter__task_file",
    "bpf_iter__tcp",
    "bpf_iter__udp",
    "bpf_perf_event_data",
    "bpf_stack_build_id",
    "i_ctime_sec",
    "linux_binprm",
    "loginuid",
    "mount",
    "pt_regs",
    "trace_event_raw_block_rq_completion",
    "trace_event_raw_sched_process_exec",
    "trace_event_raw_sys_enter",
    "trace_event_raw_sys_exit",
)
"""Types that a vmlinux.h must have: those of a kernel of 6.11 or newer with these features."""


def find_btf(image: bytes, source: str) -> bytes:
    """The BTF blob inside a kernel image, or *image* itself when it is raw BTF.

    *source* names the image in the BuildError raised when there is none.
    """
    found = _scan(image)
    for magic, unpack in _UNPACKERS.items():
        start = image.find(magic)
        while found is None and start >= 0:
            unpacked = unpack(image[start:])
            if unpacked is not None:
                found = _scan(unpacked)
            start = image.find(magic, start + 1)
    if found is None:
        raise BuildError(
            f"reading the types of the kernel {source}: no BTF found in it",
            remedy="use a kernel built with CONFIG_DEBUG_INFO_BTF; a kernel packed with zstd "
            "needs the zstd program",
        )
    return found


def missing_names(btf: bytes) -> list[str]:
    """Names of REQUIRED_NAMES that the blob does not contain."""
    *_, str_off, str_len = _HEADER.unpack_from(btf)
    strings = btf[_HEADER.size + str_off :][:str_len]
    return [name for name in REQUIRED_NAMES if f"\0{name}\0".encode() not in strings]


def _scan(image: bytes) -> bytes | None:
    start = image.find(_MAGIC)
    while start >= 0:
        blob = _blob_at(image, start)
        if blob is not None:
            return blob
        start = image.find(_MAGIC, start + 1)
    return None


def _blob_at(image: bytes, start: int) -> bytes | None:
    if start + _HEADER.size > len(image):
        return None
    *_, type_off, type_len, str_off, str_len = _HEADER.unpack_from(image, start)
    size = _HEADER.size + str_off + str_len
    if type_off != 0 or type_len % 4 or str_off < type_len or not MIN_BTF <= size <= MAX_BTF:
        return None
    blob = image[start : start + size]
    strings = blob[_HEADER.size + str_off :]
    if len(blob) != size or strings[:1] != b"\0" or strings[-1:] != b"\0":
        return None
    return blob


def _inflate(data: bytes) -> bytes | None:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, MAX_IMAGE)
    except zlib.error:
        return None


def _unxz(data: bytes) -> bytes | None:
    try:
        return lzma.LZMADecompressor(memlimit=256 << 20).decompress(data, MAX_IMAGE)
    except (lzma.LZMAError, EOFError):
        return None


def _unzstd(data: bytes) -> bytes | None:
    """Python has no zstd before 3.14; the zstd program stops at the data behind the frame."""
    import shutil
    import subprocess
    import tempfile

    zstd = shutil.which("zstd")
    if zstd is None:
        return None
    with tempfile.TemporaryFile() as packed:
        packed.write(data)
        packed.seek(0)
        done = subprocess.run(
            [zstd, "-d", "-c", "-q"],
            stdin=packed,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
    return done.stdout or None


_UNPACKERS: dict[bytes, Callable[[bytes], bytes | None]] = {
    b"\x1f\x8b\x08": _inflate,
    b"\xfd7zXZ\x00": _unxz,
    b"\x28\xb5\x2f\xfd": _unzstd,
}
