"""What a machine must be able to do for a test: each feature is probed by doing, once a run.

A test says ``@pytest.mark.needs("root", "kprobe")``; conftest asks :func:`missing`. The
environment variable ``IG_PY_REQUIRE`` (``1`` for all, or names separated by commas) turns
a missing feature into a failure.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from ig_py.errors import IgPyError
from ig_py.host.proc import HostView
from ig_py.runtime.image_btf import ImageBtf
from support import bpf_syscall, compilers
from support.waiting import SLOWNESS

_BPF_MAP_CREATE = 0
_BPF_MAP_TYPE_ARRAY = 2
_BPF_MAP_TYPE_RINGBUF = 27
_SYS_FSOPEN = 430
"""On every architecture but Alpha."""
MAY_SET_CLOCK = "IG_PY_MAY_SET_CLOCK"
_PMU = Path("/sys/bus/event_source/devices")

Probe = Callable[[], str | None]
_PROBES: dict[str, Probe] = {}


def _feature(name: str) -> Callable[[Probe], Probe]:
    def register(probe: Probe) -> Probe:
        _PROBES[name] = functools.cache(probe)
        return probe

    return register


def _register_clangs() -> None:
    def probe(release: int) -> str | None:
        found = compilers.installed(release)
        return None if found else f"not installed: clang-{release} with llvm-strip"

    for release in compilers.RELEASES:
        _feature(f"clang-{release}")(functools.partial(probe, release))


def names() -> list[str]:
    """Every feature that a test can ask for."""
    return sorted(_PROBES)


def missing(name: str) -> str | None:
    """Why this machine lacks *name*; None when it has it. KeyError for an unknown name."""
    return _PROBES[name]()


def required(name: str) -> bool:
    """Does ``IG_PY_REQUIRE`` forbid to skip for want of *name*?"""
    value = os.environ.get("IG_PY_REQUIRE", "")
    return value == "1" or name in value.split(",")


def lack(name: str, why: str) -> NoReturn:
    """End the test for want of *name*: a failure where that is required, else a skip."""
    if name not in _PROBES:
        raise KeyError(name)
    if required(name):
        pytest.fail(f"{name} is required (IG_PY_REQUIRE) but missing: {why}", pytrace=False)
    pytest.skip(f"needs {name}: {why}")


def need(*wanted: str) -> None:
    """As the marker ``needs``, for what only a running test knows that it needs."""
    for name in wanted:
        if why := missing(name):
            lack(name, why)


def _create_map(map_type: int, key_size: int, value_size: int, entries: int) -> str | None:
    attributes = struct.pack("<IIIII", map_type, key_size, value_size, entries, 0)
    try:
        os.close(bpf_syscall.call(_BPF_MAP_CREATE, attributes))
    except OSError as error:
        return f"creating a map of type {map_type}: {error}"
    return None


def _program(*candidates: str) -> str | None:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if any(shutil.which(candidate, path=path) for candidate in candidates):
        return None
    return f"not installed: {' or '.join(candidates)}"


@_feature("root")
def _root() -> str | None:
    return None if os.geteuid() == 0 else "not running as root"


@_feature("bpf")
def _bpf() -> str | None:
    return _create_map(_BPF_MAP_TYPE_ARRAY, 4, 4, 1)


@_feature("ringbuf")
def _ringbuf() -> str | None:
    return _create_map(_BPF_MAP_TYPE_RINGBUF, 0, 0, os.sysconf("SC_PAGE_SIZE"))


@_feature("btf")
def _btf() -> str | None:
    path = Path("/sys/kernel/btf/vmlinux")
    return None if path.exists() else f"the kernel has no {path}"


@_feature("kprobe")
def _kprobe() -> str | None:
    return None if (_PMU / "kprobe/type").exists() else "the kernel has no kprobe events"


@_feature("uprobe")
def _uprobe() -> str | None:
    return None if (_PMU / "uprobe/type").exists() else "the kernel has no uprobe events"


@_feature("tracepoint")
def _tracepoint() -> str | None:
    return None if (_PMU / "tracepoint/type").exists() else "the kernel has no tracepoint events"


@_feature("fentry")
def _fentry() -> str | None:
    from ig_py import _core

    return None if _core.probe("fentry") else "the kernel refuses fentry programs"


@_feature("lsm")
def _lsm() -> str | None:
    from ig_py import _core

    return None if _core.probe("lsm") else "the kernel refuses BPF LSM programs"


@_feature("iter")
def _iter() -> str | None:
    from ig_py import _core

    return None if _core.probe("iter") else "the kernel refuses BPF iterators"


@_feature("raw_tracepoint")
def _raw_tracepoint() -> str | None:
    from ig_py import _core

    return None if _core.probe("raw_tracepoint") else "the kernel refuses raw tracepoints"


@_feature("uprobe_multi")
def _uprobe_multi() -> str | None:
    from ig_py import _core

    return None if _core.probe("uprobe_multi") else "the kernel has no links of many uprobes"


@_feature("kprobe_multi")
def _kprobe_multi() -> str | None:
    from ig_py import _core

    return None if _core.probe("kprobe_multi") else "the kernel has no links of many kprobes"


@_feature("clang")
def _clang() -> str | None:
    from ig_py.toolchain.clang import find_clang

    try:
        return None if find_clang() else "not installed: clang"
    except IgPyError as error:
        return str(error)


@_feature("wasm_linker")
def _wasm_linker() -> str | None:
    from ig_py.toolchain.clang import find_clang
    from ig_py.toolchain.wasm import find_linker

    try:
        clang = find_clang()
    except IgPyError as error:
        return str(error)
    return None if clang and find_linker(clang) else "not installed: clang with its wasm-ld"


@_feature("go")
def _go() -> str | None:
    return _program("go")


@_feature("registry")
def _registry() -> str | None:
    return _program("docker-registry")


@_feature("skopeo")
def _skopeo() -> str | None:
    return _program("skopeo")


@_feature("containerd")
def _containerd() -> str | None:
    return _program("containerd") or _program("ctr") or _program("runc", "crun")


@_feature("oras")
def _oras() -> str | None:
    return _program("oras")


@_feature("runc")
def _runc() -> str | None:
    return _root() or _program("runc")


@_feature("musl")
def _musl() -> str | None:
    return _program("musl-gcc")


@_feature("crun")
def _crun() -> str | None:
    return _root() or _program("crun")


@_feature("engine")
def _engine() -> str | None:
    """A Docker engine of our own; a test finds out whether it starts."""
    return _root() or _program("dockerd") or _program("containerd")


@_feature("image")
def _image() -> str | None:
    """What ./Dockerfile is built from without a network."""
    root = Path(__file__).parents[2]
    if not (root / ".cache/image/bookworm.tar").exists():
        return "there is no base image: make image makes one"
    if not list((root / "dist").glob("*.whl")):
        return "there is no wheel in dist/: make setup makes one"
    return None


@_feature("openssl")
def _openssl() -> str | None:
    return _program("openssl")


@_feature("binutils")
def _binutils() -> str | None:
    return _program("objcopy") or _program("strip") or _program("readelf") or _program("cc")


@_feature("libpcap")
def _libpcap() -> str | None:
    for name in ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return None
    return "not installed: libpcap"


@_feature("hold")
def _hold() -> str | None:
    from ig_py import _core

    why = _core.exec_hold_refusal()
    return why and f"executions cannot be held: {why}"


@_feature("tmpfs")
def _tmpfs() -> str | None:
    """A test finds out whether it may be mounted."""
    return _root()


@_feature("overlayfs")
def _overlayfs() -> str | None:
    # Asked like this, the kernel loads the module; /proc/filesystems knows those loaded only.
    opened = ctypes.CDLL(None, use_errno=True).syscall(_SYS_FSOPEN, b"overlay", 0)
    if opened < 0:
        return f"the kernel refuses: {os.strerror(ctypes.get_errno())}"
    os.close(opened)
    return None


@_feature("fuse")
def _fuse() -> str | None:
    return None if Path("/dev/fuse").exists() else "the kernel has no /dev/fuse"


@_feature("io_uring")
def _io_uring() -> str | None:
    from support.uring import Ring

    try:
        Ring(False).close()
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return f"the kernel refuses: {error.strerror}"
        raise
    return None


@_feature("cpu_limits")
def _cpu_limits() -> str | None:
    """A test finds out whether a group may be made."""
    if Path("/sys/fs/cgroup/cpu/cpu.stat").exists():
        return None
    if Path("/sys/fs/cgroup/cpu,cpuacct/cpu.stat").exists():
        return None
    for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        file = root / "cgroup.controllers"
        if file.exists() and "cpu" in file.read_text().split():
            return None
    return "no hierarchy limits processor time"


@_feature("podman")
def _podman() -> str | None:
    return _program("podman")


@_feature("busybox")
def _busybox() -> str | None:
    return _program("busybox")


@_feature("cgroup2")
def _cgroup2() -> str | None:
    roots = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
    found = any((root / "cgroup.controllers").exists() for root in roots)
    return None if found else "no cgroup2 hierarchy is mounted"


@_feature("cc")
def _cc() -> str | None:
    return _program("cc")


@_feature("valgrind")
def _valgrind() -> str | None:
    return _program("valgrind")


@_feature("localtime")
def _localtime() -> str | None:
    path = Path("/etc/localtime")
    return None if path.is_file() else f"there is no {path} to mount over"


@_feature("os_release")
def _os_release() -> str | None:
    found = ImageBtf((), HostView(), "test").member()
    return None if found else "os-release does not tell this distribution's name and version"


@_feature("native_processor")
def _native_processor() -> str | None:
    return None if SLOWNESS == 1 else "an emulated machine is too slow, and its files are far away"


@_feature("settable_clock")
def _settable_clock() -> str | None:
    """Only where nothing else depends on the clock: whoever starts the tests says so."""
    return None if os.environ.get(MAY_SET_CLOCK) == "1" else f"{MAY_SET_CLOCK}=1 is not set"


@_feature("qemu")
def _qemu() -> str | None:
    return _program("qemu-system-x86_64")


_register_clangs()
