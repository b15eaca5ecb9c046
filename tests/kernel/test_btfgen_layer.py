"""Where the kernel's BTF cannot be read, the types of an image's btfgen layer count."""

from __future__ import annotations

import io
import os
import struct
import tarfile
from pathlib import Path

import pytest
from support.gadget_build import gadget_object
from support.images import write_layout
from support.running_gadget import RunningGadget
from support.waiting import deadline, wait_for

from ig_py.host.proc import HostView
from ig_py.oci.pack import GadgetFiles, pack
from ig_py.runtime.image_btf import ImageBtf
from ig_py.runtime.loader import VMLINUX_BTF
from ig_py.toolchain.vmlinux import host_arch

pytestmark = [
    pytest.mark.needs("root", "bpf", "btf", "tracepoint", "clang"),
    pytest.mark.timeout(300),
]

GADGET = "trace_open"
PLACES = "/sys/kernel/btf /boot /lib/modules /usr/lib/debug"
"""Where libbpf looks for the kernel's types (btf__load_vmlinux_btf)."""
HIDDEN = f'for d in {PLACES}; do test -d $d && mount -t tmpfs none $d; done; exec "$@"'
MEMBER = ImageBtf((), HostView(), "test").member()


def one_number() -> bytes:
    """Valid BTF with the type ``int`` and nothing else."""
    types = struct.pack("<III", 1, 1 << 24, 4) + struct.pack("<I", 32)
    strings = b"\0int\0"
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 16, 16, len(strings)) + types + strings


def layer(types: bytes) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", compresslevel=1) as tar:
        info = tarfile.TarInfo(MEMBER)
        info.size = len(types)
        tar.addfile(info, io.BytesIO(types))
    return raw.getvalue()


def hidden_run(directory: Path, btfgen: bytes | None, *flags: str) -> RunningGadget:
    """A run of our gadget that finds no BTF of the kernel."""
    arch = host_arch()
    assert arch is not None
    files = GadgetFiles(ebpf=gadget_object(GADGET, directory), btfgen=btfgen)
    metadata = (Path(__file__).parents[1] / "gadgets" / GADGET / "gadget.yaml").read_bytes()
    image = pack({arch: files}, metadata, builder_version="v0.0.0", created="2026-11-23T05:27:26Z")
    write_layout(directory / "layout", image, [])
    run = RunningGadget(
        directory / "run", str(directory / "layout"), "--verify-image=false", "--host", *flags
    )
    run.argv = ["unshare", "--mount", "sh", "-c", HIDDEN, "sh", *run.argv]
    return run


@pytest.mark.needs("os_release")
def test_the_layer_replaces_the_kernels_types(tmp_path: Path) -> None:
    flags = ("-o", "json", f"--pid={os.getpid()}")
    with hidden_run(tmp_path, layer(VMLINUX_BTF.read_bytes()), *flags) as run:
        run.wait_running()
        Path("/etc/hostname").read_bytes()
        wait_for(lambda: "/etc/hostname" in run.out, "the event", 20)
        assert run.end() == 0


@pytest.mark.parametrize(
    ("btfgen", "said"),
    [
        pytest.param(None, "this kernel has no BTF, and the image brings no types", id="no layer"),
        pytest.param(layer(b"")[:20], "reading the image's BTF layer", id="a damaged layer"),
        # With the kernel's own types it would load.
        pytest.param(layer(one_number()), "the verifier rejects program ig_open", id="other types"),
    ],
)
def test_without_the_types_the_gadget_does_not_start(
    tmp_path: Path, btfgen: bytes | None, said: str
) -> None:
    with hidden_run(tmp_path, btfgen, "-o", "json") as run:
        assert run.process.wait(deadline(60)) == 1
    error = next(line for line in run.err.splitlines() if line.startswith("Error: "))
    assert said in error
    assert run.out == ""
